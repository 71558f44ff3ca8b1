"""The contracts for plugins under one name; each has its own file in ``peftlab.core``."""

from peftlab.core.application import APPLICATIONS, Application, Hosting, Part, Workplace
from peftlab.core.audit import AUDITS, Audit, Figure, Findings
from peftlab.core.augmentation import AUGMENTATIONS, Augmentation, LoadedModel, ModelAugmentation, NeededModel
from peftlab.core.hooks import Backward, TrainingHooks
from peftlab.core.method import METHODS, Method, MethodContext, TargetModules, is_matrix
from peftlab.core.metric import METRICS, Metric
from peftlab.core.model_facts import CHECKPOINT_HEADS, Family, ModelFacts, TokenizerFacts, is_embedding
from peftlab.core.optimizer import OPTIMIZERS, OptimizerConfig
from peftlab.core.perturbation import PERTURBATIONS, Perturbation
from peftlab.core.regularizer import REGULARIZERS, Regularizer
from peftlab.core.reporter import ProgressCallback, Reporter, Silent
from peftlab.core.reward import REWARDS, Answer, Reward, reward_function
from peftlab.core.schedule import SCHEDULES, Place, Schedule
from peftlab.core.selection import STRATEGIES, Candidates, Choice, Strategy
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import (
    TASKS,
    Comparison,
    EmbedsText,
    GeneratesText,
    Head,
    Inference,
    Policy,
    Prediction,
    Result,
    RollOut,
    Scorer,
    ScoresPairs,
    Task,
    UntouchedBase,
)

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
    "Augmentation",
    "Backward",
    "Candidates",
    "Choice",
    "Comparison",
    "EmbedsText",
    "EncodedSplit",
    "Example",
    "Family",
    "Figure",
    "Findings",
    "GeneratesText",
    "Head",
    "Hosting",
    "Inference",
    "LoadedModel",
    "Method",
    "MethodContext",
    "Metric",
    "ModelAugmentation",
    "ModelFacts",
    "NeededModel",
    "OptimizerConfig",
    "Part",
    "Perturbation",
    "Place",
    "Policy",
    "Prediction",
    "ProgressCallback",
    "Regularizer",
    "Reporter",
    "Result",
    "Reward",
    "RollOut",
    "Schedule",
    "Scorer",
    "ScoresPairs",
    "Silent",
    "Split",
    "Strategy",
    "TargetModules",
    "Task",
    "TokenizerFacts",
    "TrainingHooks",
    "UntouchedBase",
    "Workplace",
    "is_embedding",
    "is_matrix",
    "reward_function",
]
