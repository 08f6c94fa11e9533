"""The parts of a Metering, and how they are connected: a namespace for each group of calls, and private ones."""

from collections.abc import Callable
from datetime import datetime

from ..domain.acceptance_policy import AcceptancePolicy
from ..projections.projector import Projector, reset_if_other_ledger
from .approvals.gate import ApprovalGate
from .archive.archived_events import connect_archive
from .archive.pruning import PruningService
from .checkpoints.service import CheckpointService
from .commands.access_keys import AccessKeyCommands
from .commands.bulk_cancellations import BulkCancellationCommands
from .commands.cancellations import CancellationCommands
from .commands.derived_meters import DerivedMeterCommands
from .commands.generations import GenerationCommands
from .commands.imports import ImportCommands
from .commands.meters import MeterCommands
from .commands.periods import PeriodCommands
from .commands.proposals import ProposalCommands
from .commands.proposed_changes import ProposedChanges
from .commands.rules import GenerationPromoter, RuleCommands
from .commands.usage import UsageCommands
from .evidence.service import EvidenceService
from .jobs.service import JobService
from .jobs.tasks import TaskService
from .ledger.ledger import Ledger
from .queries.archive_comparison import ArchiveComparer
from .queries.changed_events import ChangeQueries
from .queries.comparison import GenerationComparison
from .queries.customers import CustomerQueries
from .queries.events import EventQueries
from .queries.explanations import ExplanationQueries
from .queries.freshness import FreshReadModels
from .queries.history import HistoryQueries
from .queries.meter_query import MeterQueryFactory
from .queries.sql import SqlQueries
from .queries.totals import TotalQueries
from .queries.verification import Verifier
from .read_models.generations import Generations
from .read_models.projection_runner import ProjectionRunner
from .read_models.worker_pool import WORKER_PROCESSES, Worker, available_workers
from .storage.ports import GenerationStore


class MeteringParts:
    """The namespaces of a Metering, such as `periods`, and what its everyday calls use."""

    def __init__(
        self, ledger: Ledger, read_models: GenerationStore, policy: AcceptancePolicy, clock: Callable[[], datetime]
    ) -> None:
        self.clock = clock
        self._ledger = connect_archive(ledger)
        self._read_models = read_models
        reset_if_other_ledger(ledger, read_models)
        self._projector = Projector(ledger, read_models, workers=WORKER_PROCESSES)
        self._generations = Generations(ledger, read_models)
        self._usage_commands = UsageCommands(ledger, policy, clock)
        self._cancellation_commands = CancellationCommands(ledger, policy, clock)
        self._fresh_read_models = FreshReadModels(
            self._projector, read_models, self._generations.switch_to_current_rules, lambda: ledger.recorded_head
        )
        meter_queries = MeterQueryFactory(ledger, self._fresh_read_models)
        self._total_queries = TotalQueries(ledger, meter_queries, self._projector)
        self.sql = SqlQueries(ledger, meter_queries)
        self._change_queries = ChangeQueries(ledger, meter_queries, self._total_queries)
        self._event_queries = EventQueries(ledger, meter_queries)
        self.history = HistoryQueries(ledger, meter_queries)
        self._explanations = ExplanationQueries(ledger, meter_queries)
        self._projection_runner = ProjectionRunner(ledger, self._fresh_read_models.reach_head)
        self._verifier = Verifier(ledger, read_models, meter_queries, self._projector)
        self._archive_comparer = ArchiveComparer(meter_queries, self._verifier.closings)
        derived_meters = DerivedMeterCommands(ledger, self._generations, clock)
        self.meters = MeterCommands(ledger, derived_meters, meter_queries, clock)
        gate = ApprovalGate(ledger)
        self.periods = PeriodCommands(ledger, meter_queries, policy, gate, clock)
        promoter = GenerationPromoter(ledger, self._generations, gate, clock)
        self.rules = RuleCommands(ledger, self._generations, promoter)
        comparison = GenerationComparison(self._generations, self._projector, meter_queries)
        self.generations = GenerationCommands(ledger, self._generations, promoter, comparison)
        self.cancellations = BulkCancellationCommands(ledger, meter_queries, policy, gate, clock)
        changes = ProposedChanges(ledger, gate, self.rules, self.generations, self.periods, self.cancellations, clock)
        self.proposals = ProposalCommands(ledger, changes, clock)
        self.customers = CustomerQueries(meter_queries)
        self.imports = ImportCommands(ledger, self._usage_commands, self.cancellations)
        self.access_keys = AccessKeyCommands(ledger, clock)
        self.checkpoints = CheckpointService(ledger, clock, Worker if available_workers() else None)
        self.archive = PruningService(ledger, read_models, meter_queries.position_at, policy, clock)
        self.jobs = JobService(ledger)
        self.evidence = EvidenceService(ledger, meter_queries, self._explanations, self.periods)
        self.tasks = TaskService(ledger, self._verifier, self.generations, self.periods)
