"""How an export is used, as code to copy: transformers, peft, vLLM, llama.cpp."""

from ws.models.base import Base
from ws.models.locate import locate

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
QUESTION = "What is the capital of Kenya?"
ROUNDED = {
    "int8": "quantization_config=BitsAndBytesConfig(load_in_8bit=True)",
    "nf4": 'quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")',
}


def with_peft(base: Base) -> str:
    """The adapter on its base, in stock transformers and peft."""
    head, how = f"from peft import PeftModel\n{_IMPORTS}", ""
    if base.quantised is not None:
        head, how = f"{head}\nfrom transformers import BitsAndBytesConfig", f", {ROUNDED[base.quantised.by]}"
    load = f"model = AutoModelForCausalLM.from_pretrained(BASE{how})\nmodel = PeftModel.from_pretrained(model, FOLDER)"
    return _python(f"{head}\n\n{_base(base)}", "BASE", load)


def with_transformers() -> str:
    """A whole model, in stock transformers."""
    return _python(_IMPORTS, "FOLDER", "model = AutoModelForCausalLM.from_pretrained(FOLDER)")


def with_vllm_adapter(base: Base, rank: int) -> str:
    """The adapter served by vLLM, which knows a few ranks only."""
    most = min(r for r in VLLM_RANKS if r >= rank)
    serve = f"vllm serve {_name(base)} --enable-lora --max-lora-rank {most} --lora-modules steered=this/folder"
    return f"vLLM (a request for the model `steered` is steered, one for the base is not):\n\n```sh\n{serve}\n{_REQUEST}\n```"


def without_vllm() -> str:
    """That an adapter of experts is none for vLLM."""
    return "Not for vLLM: nobody has shown that it reads adapters of experts as peft lays them out. Serve a merged export there."


def with_vllm() -> str:
    """A whole model served by vLLM."""
    return f"vLLM:\n\n```sh\nvllm serve this/folder --served-model-name steered\n{_REQUEST}\n```"


def with_llama_cpp_adapter() -> str:
    """The adapter in llama.cpp; the strength is the scale of a request."""
    return f"""llama.cpp, beside the base as a GGUF file:

```sh
llama-server --model BASE.gguf --lora this/folder/adapter.gguf
curl http://localhost:8080/v1/chat/completions -H "Content-Type: application/json" \\
  -d '{{"lora": [{{"id": 0, "scale": 0.5}}], "cache_prompt": false, "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}'
```

`scale` 1 is the strength it was exported at, 0.5 half of it, -1 its opposite, 0 the base. `cache_prompt` is false because llama.cpp
may otherwise go on from a prompt that it read at another scale. `ws serve RUN --backend llama.cpp --gguf BASE.gguf` does all
of this by itself."""


def with_llama_cpp() -> str:
    """A whole model in llama.cpp."""
    convert = "python convert_hf_to_gguf.py this/folder --outfile steered.gguf\nllama-server --model steered.gguf"
    return f"llama.cpp:\n\n```sh\n{convert}\n```"


_IMPORTS = "from transformers import AutoModelForCausalLM, AutoTokenizer"
_REQUEST = f"""curl http://localhost:8000/v1/chat/completions -H "Content-Type: application/json" \\
  -d '{{"model": "steered", "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}'"""


def _python(head: str, tokenizer: str, load: str) -> str:
    return f"""```python
{head}
FOLDER = "this/folder"
tokenizer = AutoTokenizer.from_pretrained({tokenizer})
{load}
chat = [{{"role": "user", "content": "{QUESTION}"}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def _base(base: Base) -> str:
    """The line that says where the base is."""
    if base.tiny:
        return "from ws.models.tiny import FOLDER as BASE  # the model embedded in the package\n"
    return f'BASE = "{_name(base)}"'


def _name(base: Base) -> str:
    """The base by its hub id; a local folder by its name, because a card travels."""
    if base.tiny:
        return "\"$(python -c 'from ws.models.tiny import FOLDER; print(FOLDER)')\""
    source, _, _ = locate(base.source or base.id)
    return f"path/to/{base.id}" if source.startswith(("/", ".", "~")) else base.id
