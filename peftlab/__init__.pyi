from .core.callback import Callback as Callback
from .core.callback import StopTraining as StopTraining
from .core.errors import PeftlabError as PeftlabError
from .core.method import METHODS as METHODS
from .core.method import Method as Method
from .core.method import MethodContext as MethodContext
from .core.method import TargetModules as TargetModules
from .core.metric import METRICS as METRICS
from .core.metric import Metric as Metric
from .core.model_facts import ModelFacts as ModelFacts
from .core.record import Guard as Guard
from .core.record import RunRecord as RunRecord
from .core.record import read_record as read_record
from .core.regularizer import REGULARIZERS as REGULARIZERS
from .core.regularizer import Regularizer as Regularizer
from .core.reporter import PlainReporter as PlainReporter
from .core.task import TASKS as TASKS
from .core.task import Task as Task
from .inference.loaded import LoadedRun as LoadedRun
from .inference.loaded import load as load
from .methods._wrap import wrap as wrap
from .recipe.schema import Recipe as Recipe
from .recipe.schema import load_recipe as load_recipe
from .run.run import RunResult as RunResult
from .run.run import run_recipe as run_recipe

__version__: str
