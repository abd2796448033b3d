"""One HTML page of what a run, a sweep or a comparison found: one file, which asks for nothing and runs nothing.

    write_report(place_of("honesty", Path("out")), Path("honesty.html"))

| file            | holds                                                                          |
|-----------------|--------------------------------------------------------------------------------|
| `page.py`       | which page a folder gets, and where it is written                              |
| `study.py`      | what there is of a run, read from its folder; what is missing is said          |
| `run.py`        | the page of a run: its parts in their order                                    |
| `effect.py`     | the answer, its picture and its table                                          |
| `answers.py`    | the same questions along the dial                                              |
| `items.py`      | the questions that moved least and most                                        |
| `strengths.py`  | searches for the strength of a KL                                              |
| `pairs.py`      | what the direction was learnt from, with its checks                            |
| `origin.py`     | card, settings, versions and commands                                          |
| `limits.py`     | what a page does not show                                                      |
| `sweep.py`      | the page of a sweep                                                            |
| `comparison.py` | the page of a comparison                                                       |
| `frontier.py`   | effect against what it costs, for both of these                                |
| `meanings.py`   | what the columns of tables mean                                                |

Numbers and sentences are those of `ws.results`, which `ws table` prints too; here is only where they stand.
"""

from ws.report.page import place_of as place_of
from ws.report.page import report_of as report_of
from ws.report.page import write_report as write_report
