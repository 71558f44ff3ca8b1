from .broken_contract import BrokenContractError as BrokenContractError
from .method_contract import MethodContract as MethodContract
