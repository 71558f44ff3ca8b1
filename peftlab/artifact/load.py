def load_artifact(base, folder, *, method, context):
    import peft
    return peft.PeftModel.from_pretrained(base, folder / "adapter").eval()
