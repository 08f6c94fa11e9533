// Stripe's SDK for Node goes through the surface; each line that is printed is what one step came to.
import Stripe from "stripe";

const { host, port, key, lossyPort, loseNext, now } = JSON.parse(process.env.SURFACE);
const client = (secret, to = port) => new Stripe(secret, { host, port: to, protocol: "http" });
const stripe = client(key);
const { meters, meterEvents, meterEventAdjustments } = stripe.billing;
const HOUR = 3600;
const hour = Math.floor(now / HOUR) * HOUR;

const tell = (step, said) => console.log(JSON.stringify({ step, said }));
const use = (value, more = {}) => ({
  event_name: "tokens",
  payload: { stripe_customer_id: "cus_1", value: String(value) },
  ...more,
});
const refused = async (step, promise) => {
  try {
    tell(step, await promise);
  } catch (error) {
    const { type, rawType, code = null, param = null, statusCode, message } = error;
    const shouldRetry = error.headers?.["stripe-should-retry"] ?? null;
    tell(step, { type, rawType, code, param, statusCode, message, shouldRetry });
  }
};
const all = async (list, of) => {
  const found = [];
  for await (const one of list) found.push(of(one));
  return found;
};
const range = { customer: "cus_1", start_time: hour - HOUR, end_time: hour + HOUR };
const total = async () => {
  const { data } = await meters.listEventSummaries(meter.id, range);
  return data.map((one) => one.aggregated_value);
};

// Creation to summaries. Node sends what is null as an empty value.
const meter = await meters.create({
  display_name: "Tokens",
  event_name: "tokens",
  default_aggregation: { formula: "sum" },
  event_time_window: null,
});
tell("meter", meter);
tell("retrieved", (await meters.retrieve(meter.id)).id === meter.id);
tell("renamed", (await meters.update(meter.id, { display_name: "Token" })).display_name);
tell("v1 event", await meterEvents.create(use("1.5", { identifier: "one", timestamp: hour })));
tell("v2 event", await stripe.v2.billing.meterEvents.create(use(2, { identifier: "two" })));
tell("without an identifier", typeof (await meterEvents.create(use(4, { identifier: null }))).identifier);
tell("total", await total());
tell("summaries", await meters.listEventSummaries(meter.id, { ...range, value_grouping_window: null }));

// Errors.
await refused("duplicate v1", meterEvents.create(use(1, { identifier: "one" })));
await refused("duplicate v2", stripe.v2.billing.meterEvents.create(use(1, { identifier: "one" })));
await refused("no meter", meterEvents.create({ ...use(1), event_name: "nobody's" }));
await refused("no meter v2", stripe.v2.billing.meterEvents.create({ ...use(1), event_name: "nobody's" }));
await refused("missing", meters.retrieve("mtr_none"));
await refused("unknown parameter", meters.create({ colour: "red" }));
await refused("misaligned", meters.listEventSummaries(meter.id, { ...range, start_time: hour - 1 }));
await refused("wrong key", client("sk_live_wrong").billing.meters.list());
await refused("no scope", client(JSON.parse(process.env.SURFACE).recordKey).billing.meters.list());
await refused("other parameters", (async () => {
  await meterEvents.create(use(0), { idempotencyKey: "same" });
  return meterEvents.create(use(1), { idempotencyKey: "same" });
})());

// Cancels.
tell("cancel v1", await meterEventAdjustments.create({ event_name: "tokens", type: "cancel", cancel: { identifier: "one" } }));
tell("cancel v2", await stripe.v2.billing.meterEventAdjustments.create({ event_name: "tokens", type: "cancel", cancel: { identifier: "two" } }));
await refused("cancel unknown", meterEventAdjustments.create({ event_name: "tokens", type: "cancel", cancel: { identifier: "none" } }));
tell("total after cancels", await total());

// The stream.
const session = await stripe.v2.billing.meterEventSession.create();
tell("session", Object.keys(session).filter((name) => name !== "lastResponse").sort());
const stream = client(session.authentication_token).v2.billing.meterEventStream;
await stream.create({ events: Array.from({ length: 100 }, () => use(1)) });
tell("total after stream", await total());
await refused("key at the stream", stripe.v2.billing.meterEventStream.create({ events: [use(1)] }));
await refused("token at another path", client(session.authentication_token).billing.meters.list());

// What is lost on its way is sent again, and done once.
const lossy = client(key, lossyPort);
const losing = async (count, ask) => {
  await fetch(loseNext + count);
  return ask();
};
const again = await losing(1, () => lossy.billing.meterEvents.create(use(1000)));
tell("retried v1", again.lastResponse.headers["idempotent-replayed"]);
tell("retried v2", (await losing(2, () => lossy.v2.billing.meterEvents.create(use(1000)))).object);
const lossyStream = client(session.authentication_token, lossyPort).v2.billing.meterEventStream;
await losing(1, () => lossyStream.create({ events: [use(1000)] }));
const other = await losing(1, () =>
  lossy.billing.meters.create({ display_name: "x", event_name: "other", default_aggregation: { formula: "count" } }));
tell("retried meter", other.event_name);
tell("total after retries", await total());

// Paging.
tell("status", [(await meters.deactivate(other.id)).status, (await meters.reactivate(other.id)).status]);
tell("paged backwards", await all(meters.list({ ending_before: "mtr_cGFnZWQ", limit: 100 }), (one) => one.event_name));
tell("paged", await all(meters.list(), (one) => one.event_name));
tell("paged summaries", await all(
  meters.listEventSummaries("mtr_cGFnZWQ", {
    customer: "cus_1", start_time: hour - 999 * HOUR, end_time: hour + HOUR, value_grouping_window: "hour", limit: 100,
  }),
  (one) => one.aggregated_value,
));
