from pydantic import Field
from peftlab.interfaces import METHODS, Method
@METHODS.register("lora")
class Lora(Method):
    """x"""
    rank: int = 8
    alpha: int = 16
    target_modules: str | list[str] = "all-linear"
    def apply(self, model, context):
        import peft
        return peft.get_peft_model(model, peft.LoraConfig(task_type=context.peft_task_type, r=self.rank, lora_alpha=self.alpha, target_modules=self.target_modules))
