"""The code on an export's card runs as it is copied, and steers."""

import contextlib
import io
import re

import pytest
from test_steer import lowrank

import ws
from ws.export.usage import QUESTION, with_vllm_adapter


@pytest.mark.parametrize("to", ["peft", "merged"])
def test_the_python_of_a_card_gives_the_steered_answer(tiny, tmp_path, to):
    direction = lowrank(tiny, size=1.0)
    ws.export(tiny, direction, tmp_path / "e", to=to, alpha=-1.0)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "e" / "README.md").read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace("this/folder", str(tmp_path / "e")), {})

    def answer():
        chat = [{"role": "user", "content": QUESTION}]
        ids = tiny.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        answer = tiny.model.generate(**ids, max_new_tokens=64, do_sample=False)
        return tiny.tokenizer.decode(answer[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)

    with ws.steer(tiny, direction, -1.0):
        steered = answer()
    assert printed.getvalue() == steered + "\n"
    assert steered != answer()


def test_a_card_names_a_rank_that_vllm_knows_and_no_path_of_this_machine(tiny, tmp_path):
    import small

    assert "--max-lora-rank 16 " in with_vllm_adapter(tiny, 9)
    tiny.model.save_pretrained(tmp_path / "my model")
    local = small.base("llama")
    object.__setattr__(local, "source", str(tmp_path / "my model"))
    text = with_vllm_adapter(local, 1)
    assert str(tmp_path) not in text
    assert f"path/to/{local.id}" in text
