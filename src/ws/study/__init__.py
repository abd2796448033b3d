"""One study and its stages.

| file             | holds                                                                          |
|------------------|--------------------------------------------------------------------------------|
| `options.py`     | what a person may ask of every study                                           |
| `planning.py`    | the plan that options describe, and the model they name                        |
| `plan.py`        | `Plan`: a base, a behavior, how pairs and adapters are made, where stages lie  |
| `keys.py`        | what decides a result, as hashes                                               |
| `stages.py`      | `make_pairs`, `make_sides`, `make_direction`, `make_calibration`               |
| `card.py`        | what is written on the card of a run's direction                               |
| `evaluations.py` | `make_eval`, `make_reference`                                                  |
| `worker.py`      | the model that a process keeps from task to task                               |
| `runs.py`        | the runs below an output folder                                                |
"""
