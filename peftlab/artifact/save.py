from peftlab.files import atomic_folder
def save_artifact(model, method, *, folder, tokenizer, context, base_path):
    with atomic_folder(folder / "adapter") as partial:
        model.save_pretrained(partial); tokenizer.save_pretrained(partial)
    return folder / "adapter"
