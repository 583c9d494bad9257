"""The evaluation report: `report.html`, one self-contained page, and `report.json`, all its figures.

Layers, from the top: `write` > `page` > `charts` and `scatter` > `collect` > a module for each section > `values`.
"""

from training.report.write import report_run, write_report

__all__ = ["report_run", "write_report"]
