"""The preflight: what is wrong with a Kaggle submission, and with the photos behind it, before anybody hands it in.

Layers, from the top: `report` (a submission) > `structure` > `scores` > `layout`; `images` (a folder) > `rounds`; both
over `findings`. Nothing here needs a network, a bundle or the competition's answers.
"""

from app.reid.preflight.findings import Finding, Severity
from app.reid.preflight.images import check_images
from app.reid.preflight.report import Report, check_submission
from app.reid.preflight.structure import Structure

__all__ = ["Finding", "Report", "Severity", "Structure", "check_images", "check_submission"]
