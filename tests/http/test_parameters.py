"""Parsing parameters from forms, queries and JSON: values and errors."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.interfaces.http.catalogue import all_operations
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.parameters import check_text, parse_form, parse_json, parse_parameters
from tallybook.application.interfaces.http.resources.event_summaries import ListSummaries
from tallybook.application.interfaces.http.resources.meter_event_adjustments import CreateAdjustment
from tallybook.application.interfaces.http.resources.meter_event_stream import SendEvents
from tallybook.application.interfaces.http.resources.meter_events import CreateMeterEvent, CreateMeterEventV2
from tallybook.application.interfaces.http.resources.meters import ConfigureMeter, CreateMeter, ListMeters
from tallybook.application.interfaces.http.rules_objects import Condition, Rounding
from tallybook.domain.rounding import RoundingMode

MISSING, UNKNOWN, INVALID = "parameter_missing", "parameter_unknown", "parameter_invalid"
METER = "display_name=x&event_name=e&default_aggregation[formula]=sum"
EVENT = "event_name=e&payload[value]=1"
RANGE = "customer=c&start_time=0&end_time=60"
Kind = type[msgspec.Struct]

FORMS: list[tuple[Kind, str, str, str, str]] = [
    (CreateMeter, "", MISSING, "display_name", "Missing required param: display_name."),
    (CreateMeter, "display_name=x", MISSING, "event_name", "Missing required param: event_name."),
    (CreateMeter, "display_name=x&event_name=e", MISSING, "default_aggregation",
     "Missing required param: default_aggregation."),
    (CreateMeter, "display_name=x&event_name=e&default_aggregation[x]=1", UNKNOWN, "default_aggregation[x]",
     "Received unknown parameter: default_aggregation[x]"),
    (CreateMeter, "display_name=x&event_name=e&default_aggregation[formula]=max", INVALID,
     "default_aggregation[formula]", "Invalid default_aggregation[formula]: invalid enum value 'max'."),
    (CreateMeter, "display_name=x&event_name=e&default_aggregation=sum", INVALID, "default_aggregation",
     "Invalid default_aggregation: expected `object`, got `str`."),
    (CreateMeter, f"{METER}&colour=red", UNKNOWN, "colour", "Received unknown parameter: colour"),
    (CreateMeter, f"{METER}&event_time_window=null", INVALID, "event_time_window",
     "Invalid event_time_window: invalid enum value 'null'."),
    (CreateMeter, f"{METER}&expand=x", INVALID, "expand", "Invalid expand: expected `array`, got `str`."),
    (CreateMeter, f"{METER}&expand[a]=x", INVALID, "expand", "Invalid expand: expected `array`, got `object`."),
    (CreateMeter, f"{METER}&expand[{'9' * 5_000}]=x", INVALID, f"expand[{'9' * 193}",
     "A parameter name has more than 500 characters."),
    (CreateMeter, f"{METER}&expand[{'9' * 400}]=x", INVALID, "expand",
     "Invalid expand: expected `array`, got `object`."),
    (CreateMeter, f"{METER}&expand[]=", INVALID, "expand[0]", "Invalid expand[0]: expected `str` of length >= 1."),
    (CreateMeter, f"{METER}&dimension_payload_keys[1]=a&dimension_payload_keys[0]=", INVALID,
     "dimension_payload_keys[0]", "Invalid dimension_payload_keys[0]: expected `str` of length >= 1."),
    (CreateMeterEvent, "event_name=e&payload=1", INVALID, "payload", "Invalid payload: expected `object`, got `str`."),
    (CreateMeterEvent, "event_name=e&payload=", INVALID, "payload", "Invalid payload: expected `object`, got `str`."),
    (CreateMeterEvent, "event_name=e&payload[a][b]=1", INVALID, "payload[...]",
     "Invalid payload[...]: expected `str`, got `object`."),
    (CreateMeterEvent, f"event_name={'e' * 101}&payload[value]=1", INVALID, "event_name",
     "Invalid event_name: expected `str` of length <= 100."),
    (CreateMeterEvent, f"{EVENT}&timestamp=soon", INVALID, "timestamp",
     "Invalid timestamp: expected `int | null`, got `str`."),
    (CreateMeterEvent, f"{EVENT}&timestamp=null", INVALID, "timestamp",
     "Invalid timestamp: expected `int | null`, got `str`."),
    (CreateMeterEvent, f"{EVENT}&timestamp=1.0", INVALID, "timestamp",
     "Invalid timestamp: expected `int | null`, got `str`."),
    (CreateMeterEvent, f"{EVENT}&timestamp=1e9", INVALID, "timestamp",
     "Invalid timestamp: expected `int | null`, got `str`."),
    (CreateMeterEvent, f"{EVENT}&timestamp={'9' * 400}", INVALID, "timestamp",
     "Invalid timestamp: expected `int | null`, got `str`."),
    (CreateMeterEvent, f"{EVENT}&timestamp=999999999999", INVALID, "timestamp",
     "Invalid timestamp: expected `int` <= 253402300799."),
    (CreateAdjustment, "event_name=e&type=cancel", MISSING, "cancel", "Missing required param: cancel."),
    (CreateAdjustment, "event_name=e&type=cancel&cancel[id]=1", UNKNOWN, "cancel[id]",
     "Received unknown parameter: cancel[id]"),
    (CreateAdjustment, "event_name=e&type=undo&cancel[identifier]=1", INVALID, "type",
     "Invalid type: invalid enum value 'undo'."),
    (ListMeters, "limit=0", INVALID, "limit", "Invalid limit: expected `int` >= 1."),
    (ListMeters, "limit=101", INVALID, "limit", "Invalid limit: expected `int` <= 100."),
    (ListMeters, "limit= 5", INVALID, "limit", "Invalid limit: expected `int`, got `str`."),
    (ListMeters, "limit=٣", INVALID, "limit", "Invalid limit: expected `int`, got `str`."),
    (ListMeters, "limit=true", INVALID, "limit", "Invalid limit: expected `int`, got `str`."),
    (ListMeters, f"starting_after={'x' * 5_001}", INVALID, "starting_after",
     "Invalid starting_after: expected `str` of length <= 5000."),
    (ListSummaries, f"{RANGE}&dimension_filters=eu", INVALID, "dimension_filters",
     "Invalid dimension_filters: expected `object | null`, got `str`."),
    (ListSummaries, f"{RANGE}&dimension_filters[region][x]=eu", INVALID, "dimension_filters[...]",
     "Invalid dimension_filters[...]: expected `str | array | null`, got `object`."),
    (ListSummaries, f"{RANGE}&dimension_group_by_keys=region", INVALID, "dimension_group_by_keys",
     "Invalid dimension_group_by_keys: expected `array`, got `str`."),
    (ConfigureMeter, "event_name=e&filter=all", INVALID, "filter", "Invalid filter: invalid enum value 'all'."),
    (ConfigureMeter, "event_name=e&filter[not][key][]=x", INVALID, "filter[not][key]",
     "Invalid filter[not][key]: expected `str | null`, got `object`."),
    (ConfigureMeter, "event_name=e&filter[any]=x", INVALID, "filter[any]",
     "Invalid filter[any]: expected `array | null`, got `str`."),
    (ListSummaries, "customer=c&start_time=0", MISSING, "end_time", "Missing required param: end_time."),
    (ListSummaries, f"{RANGE}&customer[0]=c", "parameter_invalid", "customer[0]",
     "The parameter 'customer[0]' is nested in a value, or in a list item without index."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "code", "param", "message"), FORMS)
def test_a_rejected_form(kind: Kind, text: str, code: str, param: str, message: str) -> None:
    """With the parameter in brackets and Stripe's code."""
    with pytest.raises(ApiError) as exc_info:
        parse_parameters(parse_form(text), kind, from_text=True)
    error = exc_info.value.error
    assert (exc_info.value.status, error.type) == (400, "invalid_request_error")
    assert (error.code, error.param, error.message) == (code, param, message)


BODIES: list[tuple[Kind, object, str, str]] = [
    (CreateMeterEventV2, {}, MISSING, "event_name"),
    (CreateMeterEventV2, [], INVALID, ""),
    (CreateMeterEventV2, None, INVALID, ""),
    (CreateMeterEventV2, {"event_name": "e", "payload": {"value": 1}}, INVALID, "payload[...]"),
    (CreateMeterEventV2, {"event_name": "e", "payload": {"": "1"}}, INVALID, "payload"),
    (CreateMeterEventV2, {"event_name": "e", "payload": {"x" * 101: "1"}}, INVALID, "payload"),
    (CreateMeterEventV2, {"event_name": "e", "payload": {str(n): "1" for n in range(51)}}, INVALID, "payload"),
    (CreateMeterEventV2, {"event_name": None, "payload": {}}, INVALID, "event_name"),
    (CreateMeterEventV2, {"event_name": "e", "payload": {}, "timestamp": 1}, INVALID, "timestamp"),
    (CreateMeterEventV2, {"event_name": "e", "payload": {}, "timestamp": "2026-11-01T00:00:00"}, INVALID, "timestamp"),
    (CreateMeterEventV2, {"event_name": "e", "payload": {}, "expand": []}, UNKNOWN, "expand"),
    (CreateMeterEvent, {"event_name": "e", "payload": {}, "timestamp": "1"}, INVALID, "timestamp"),
    (CreateMeterEvent, {"event_name": "e", "payload": {}, "timestamp": True}, INVALID, "timestamp"),
    (CreateMeterEvent, {"event_name": "e", "payload": {}, "timestamp": 1.5}, INVALID, "timestamp"),
    (SendEvents, {}, MISSING, "events"),
    (SendEvents, {"events": [{"event_name": "e", "payload": {}}, {}]}, MISSING, "events[1][event_name]"),
    (SendEvents, {"events": [{"event_name": "e", "payload": {}, "x": 1}]}, UNKNOWN, "events[0][x]"),
    (SendEvents, {"events": [{"event_name": "e", "payload": {"a": 1}}]}, INVALID, "events[0][payload][...]"),
]


@pytest.mark.parametrize(("kind", "body", "code", "param"), BODIES)
def test_a_rejected_body(kind: Kind, body: object, code: str, param: str) -> None:
    """JSON types are strict: a number is not text, and text is not a number."""
    with pytest.raises(ApiError) as exc_info:
        parse_json(json.dumps(body).encode(), kind)
    assert (exc_info.value.status, exc_info.value.error.code, exc_info.value.error.param) == (400, code, param)


INVALID_JSON = (
    b"{",
    b"\xff",
    b'{"events":NaN}',
    b'{"events":[{"event_name":"\\ud800"}]}',
    b'{"events":[{"event_name":',
    b" ",
    b"tru",
    b"'x'",
)


@pytest.mark.parametrize("body", INVALID_JSON)
def test_invalid_json_is_rejected(body: bytes) -> None:
    """Without a parameter."""
    with pytest.raises(ApiError) as exc_info:
        parse_json(body, SendEvents)
    assert (exc_info.value.status, exc_info.value.error.code) == (400, "json_invalid")


PARSED_FORMS: list[tuple[Kind, str, dict[str, Any]]] = [
    (CreateMeterEvent, f"{EVENT}&identifier=&timestamp=", {"identifier": None, "timestamp": None}),
    (CreateMeterEvent, f"{EVENT}&identifier=null&timestamp=-5", {"identifier": "null", "timestamp": -5}),
    (CreateMeterEvent, "event_name=1&payload[0]=007&payload[a b]=", {"event_name": "1",
                                                                     "payload": {"0": "007", "a b": ""}}),
    (CreateMeterEvent, f"{EVENT}&expand[1]=b&expand[]=c&expand[0]=a", {"expand": ["a", "b", "c"]}),
    (CreateMeter, f"{METER}&dimension_payload_keys[0]=a&dimension_payload_keys[1]=b",
     {"dimension_payload_keys": ["a", "b"]}),
    (CreateMeter, f"{METER}&event_time_window=&dimension_payload_keys=&customer_mapping=",
     {"event_time_window": None, "dimension_payload_keys": None}),
    (ListMeters, "limit=007&status=&starting_after=", {"limit": 7, "status": None, "starting_after": None}),
    (ListSummaries, (f"{RANGE}&dimension_filters[a]=1&dimension_filters[b][]=2&dimension_filters[b][]=&"
                    "dimension_filters[c][1]=true&dimension_filters[c][0]=null&dimension_group_by_keys[]=a"),
     {"dimension_filters": {"a": "1", "b": ["2", ""], "c": ["null", "true"]}, "dimension_group_by_keys": ("a",)}),
    (ListSummaries, f"{RANGE}&dimension_filters=&dimension_group_by_keys=",
     {"dimension_filters": None, "dimension_group_by_keys": ()}),
    (ConfigureMeter, "event_name=e&filter=none&rounding=none&multiplier=none",
     {"filter": "none", "rounding": "none", "multiplier": "none"}),
    (ConfigureMeter, ("event_name=e&filter[any][0][key]=a&filter[any][0][exists]=true&filter[any][1][key]=b&"
                     "filter[any][1][one_of][]=x&rounding[mode]=up"),
     {"filter": Condition(any_of=[Condition(key="a", exists=True), Condition(key="b", one_of=["x"])]),
      "rounding": Rounding(mode=RoundingMode.UP)}),
    (ListSummaries, RANGE, {"customer": "c", "start_time": 0, "end_time": 60, "value_grouping_window": None}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "expected"), PARSED_FORMS)
def test_parsed_forms(kind: Kind, text: str, expected: dict[str, Any]) -> None:
    """Numbers for number fields, lists by index, and nothing for an empty value."""
    params = parse_parameters(parse_form(text), kind, from_text=True)
    assert {name: getattr(params, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("false", False), ("1", None), ("True", None), ("null", None)]
)
def test_boolean_values(text: str, expected: bool | None) -> None:
    """Are spelled as in JSON."""

    class Flags(msgspec.Struct):
        are_all: bool | None = None

    if expected is None:
        with pytest.raises(ApiError, match="are_all"):
            parse_parameters({"are_all": text}, Flags, from_text=True)
    else:
        assert parse_parameters({"are_all": text}, Flags, from_text=True).are_all is expected


@given(
    kind=st.sampled_from([operation.params_type for operation in all_operations()]),
    body=st.binary(max_size=60) | st.from_regex(rb"[{}\[\]\",:0-9a-e.\-]*", fullmatch=True),
)
def test_any_json_is_parsed_or_rejected(kind: Kind, body: bytes) -> None:
    """Without any other exception."""
    with suppress(ApiError):
        assert isinstance(parse_json(body, kind), kind)


NAMES = st.sampled_from(
    [
        "event_name",
        "payload",
        "expand",
        "limit",
        "cancel",
        "timestamp",
        "customer_mapping",
        "dimension_filters",
        "filter",
        "dimension_payload_keys",
        "x",
    ]
)
BRACKETS = st.sampled_from(
    ["", "[]", "[0]", "[1]", "[a]", "[identifier]", "[type]", "[a][b]", "[999999999999]", "[²]", "[٣]"]
)
VALUES = st.sampled_from(["", "1", "-1", "null", "true", "sum", "x" * 300, "9" * 500, "é", "a`b - at `$.c`", "%00"])


@given(
    kind=st.sampled_from([operation.params_type for operation in all_operations()]),
    fields=st.lists(
        st.tuples(NAMES, BRACKETS, VALUES).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}"), max_size=6
    ),
)
def test_any_form_is_parsed_or_rejected(kind: Kind, fields: list[str]) -> None:
    """Without any other exception."""
    with suppress(ApiError):
        assert isinstance(parse_parameters(parse_form("&".join(fields)), kind, from_text=True), kind)


@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800"])
def test_unstorable_text_is_rejected(text: str) -> None:
    """A NUL and an unpaired surrogate, with the name of the parameter."""
    with pytest.raises(ApiError) as exc_info:
        check_text(text, "customer")
    assert (exc_info.value.error.param, exc_info.value.error.code) == ("customer", INVALID)
    assert check_text("é 💥\n", "customer") == "é 💥\n"
