# Recipes are thin: each calls one command. `just` alone lists them; it comes with `pip install rust-just`.
# name=value words after a recipe are its arguments, as in the published fork: just replicate adapter=delora

ws := env("WS", "ws")

default:
    @just --list

# The whole pipeline in about half a minute: fewer questions, one pass.
smoke *args:
    {{ws}} replicate --n-topics 24 --n-samples 1 --n-personas 1 --epochs 2 --out out/smoke {{ replace_regex(args, '(\w+)=(\S+)', '--$1 $2') }}

# data -> train -> diff -> eval -> table
replicate *args:
    {{ws}} replicate {{ replace_regex(args, '(\w+)=(\S+)', '--$1 $2') }}

# Replicate on tiny, then base and steered answers side by side.
demo prompt="What is the capital of Kenya?":
    {{ws}} replicate
    {{ws}} generate --behavior honesty --alphas=-1,0,1 --prompt "{{prompt}}"

# Format, lint, types, tests.
check:
    bash .ci/run
