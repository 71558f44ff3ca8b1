"""The contracts for plugins under one name; each has its own file in ``peftlab.core``."""

from peftlab.core.application import APPLICATIONS, Application, Hosting, Part, Workplace
from peftlab.core.audit import AUDITS, Audit, Audited, AuditedModel, Figure, Findings, Sample
from peftlab.core.augmentation import AUGMENTATIONS, Augmentation, LoadedModel, ModelAugmentation, NeededModel
from peftlab.core.errors import ConfigError, DataError, PeftlabError, RunFailedError, UnsupportedError, UserError
from peftlab.core.hooks import Backward, LossFunction, ScoreOf, TextPairs, TrainingHooks, TrainingRows
from peftlab.core.image_file import ImageFile
from peftlab.core.method import METHODS, Method, MethodContext, TargetModules, is_matrix
from peftlab.core.metric import METRICS, Metric
from peftlab.core.model_facts import CHECKPOINT_HEADS, Family, ModelFacts, TokenizerFacts, is_embedding
from peftlab.core.optimizer import OPTIMIZERS, Group, OptimizerConfig
from peftlab.core.past import Past
from peftlab.core.perturbation import PERTURBATIONS, Perturbation, WordPerturbation
from peftlab.core.record import Guard
from peftlab.core.regularizer import REGULARIZERS, Regularizer, TrainingSetup
from peftlab.core.report_parts import ComparedMethod, ReportPart, Units
from peftlab.core.reporter import ProgressCallback, Reporter, Silent
from peftlab.core.reward import REWARDS, Answer, Reward, reward_function
from peftlab.core.schedule import SCHEDULES, Place, Schedule
from peftlab.core.selection import STRATEGIES, Candidates, Choice, Evidence, Strategy
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import (
    TASKS,
    Comparison,
    EmbedsText,
    GeneratesText,
    Head,
    Inference,
    JudgesResponses,
    Policy,
    Prediction,
    Result,
    RollOut,
    Scorer,
    ScoresPairs,
    Task,
    UntouchedBase,
)
from peftlab.core.task_guess import ColumnFacts, Guesser, TaskGuess

__all__ = [
    "APPLICATIONS",
    "AUDITS",
    "AUGMENTATIONS",
    "CHECKPOINT_HEADS",
    "METHODS",
    "METRICS",
    "OPTIMIZERS",
    "PERTURBATIONS",
    "REGULARIZERS",
    "REWARDS",
    "SCHEDULES",
    "STRATEGIES",
    "TASKS",
    "Answer",
    "Application",
    "Audit",
    "Audited",
    "AuditedModel",
    "Augmentation",
    "Backward",
    "Candidates",
    "Choice",
    "ColumnFacts",
    "ComparedMethod",
    "Comparison",
    "ConfigError",
    "DataError",
    "EmbedsText",
    "EncodedSplit",
    "Evidence",
    "Example",
    "Family",
    "Figure",
    "Findings",
    "GeneratesText",
    "Group",
    "Guard",
    "Guesser",
    "Head",
    "Hosting",
    "ImageFile",
    "Inference",
    "JudgesResponses",
    "LoadedModel",
    "LossFunction",
    "Method",
    "MethodContext",
    "Metric",
    "ModelAugmentation",
    "ModelFacts",
    "NeededModel",
    "OptimizerConfig",
    "Part",
    "Past",
    "PeftlabError",
    "Perturbation",
    "Place",
    "Policy",
    "Prediction",
    "ProgressCallback",
    "Regularizer",
    "ReportPart",
    "Reporter",
    "Result",
    "Reward",
    "RollOut",
    "RunFailedError",
    "Sample",
    "Schedule",
    "ScoreOf",
    "Scorer",
    "ScoresPairs",
    "Silent",
    "Split",
    "Strategy",
    "TargetModules",
    "Task",
    "TaskGuess",
    "TextPairs",
    "TokenizerFacts",
    "TrainingHooks",
    "TrainingRows",
    "TrainingSetup",
    "Units",
    "UnsupportedError",
    "UntouchedBase",
    "UserError",
    "WordPerturbation",
    "Workplace",
    "is_embedding",
    "is_matrix",
    "reward_function",
]
