"""One way from stored rows to a printed number. Nothing here knows a grid, a study or a command.

measured    the rows of an evaluation, with what its manifest says of them
line        one method at two strengths: numbers over units
trials      one method over its seeds, or over the draws of something random
effects     the families of a sweep, over seeds
sheet       a table as a value: for a terminal, Markdown, and programs
layouts     one file per published table
sentences   what tables say, each thing in one wording
published   every table again from the rows below folders
comparison  methods side by side: tables, CSV and plots in one folder
page        a self-contained HTML page, of escaped parts; for anything that makes one
chart       pictures inside a page
"""
