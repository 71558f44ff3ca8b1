from .broken_contract import BrokenContractError as BrokenContractError
from .method_contract import MethodContract as MethodContract
from .regularizer_contract import RegularizerContract as RegularizerContract
from .task_contract import TaskContract as TaskContract
