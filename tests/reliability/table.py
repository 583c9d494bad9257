"""The 15 cases with the answer that each must have, and what was seen."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

CASES: dict[int, tuple[str, str]] = {
    1: ("PNG of 106 KB declaring 900 MP, of 9 KB declaring 81 MP", "422; memory + <= 20 MB"),
    2: ("Truncated, empty, HTML named .jpg; 1 x 1 and 1 x 20000", "422 or 415; 200; neighbours unharmed or named"),
    3: ("Body over the limit, 1,001 parts, 10,000 part headers, no boundary", "413 or 400 as problem+json"),
    4: ("8 EXIF turns, CMYK, 16-bit grey, LA, P, RGBA, animations, other formats", "the right embedding; 415"),
    5: ("4x overload", "only 200 and 503 + Retry-After within 50 ms; memory flat; recovery <= 5 s"),
    6: ("Client gone while queued and mid-CSV", "0 forwards for it; slot free <= 1 s"),
    7: ("SIGTERM under load", "no accepted request lost; exit 0; past the grace 503"),
    8: ("kill -9 during cache, job and bundle writes", "starts again; nothing lost, doubled or half-read"),
    9: ("Forward raises, hangs, is out of memory", "500/503 in time; ready false; recovery or exit"),
    10: ("Bundle missing, wrong, a pickle, NaN, half-copied", "exit with one clear line; on hot swap 409"),
    11: ("CSV with unsafe names, duplicates, no rows, too many; BOM, CRLF, quotes", "422 naming lines; 413; 200"),
    12: ("One of 371 photos missing or corrupt", "422 naming it before any forward"),
    13: ("Zip: bomb, ../, symlink, duplicates, encrypted, nested", "413 or 422; nothing outside"),
    14: ("Disk full while writing cache or job", "right answer, 507 or 503; the service lives"),
    15: ("No key, wrong key, 100 requests/s", "401; 429"),
}
WORST = ("failed", "error", "skipped", "passed")


@dataclass
class Table:
    """Outcomes and notes by case. A case is as good as the worst of its tests."""

    outcomes: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self, case: int, text: str) -> None:
        self.notes[case].append(text)

    def markdown(self) -> str:
        """One line for each case that ran."""
        lines = ["| | Case | Expected | Outcome | Seen |", "|--:|---|---|---|---|"]
        for case in sorted(self.outcomes):
            what, expected = CASES[case]
            lines.append(f"| {case} | {what} | {expected} | {self.outcome(case)} | {self.seen(case)} |")
        missing = sorted(CASES.keys() - self.outcomes.keys())
        if missing:
            lines += ["", f"NOT run: {', '.join(map(str, missing))}"]
        return "\n".join(lines) + "\n"

    def seen(self, case: int) -> str:
        """The notes in the order that they came, those that came more than once with their number."""
        counts = Counter(self.notes[case])
        return "; ".join(f"{text} (x{count})" if count > 1 else text for text, count in counts.items())

    def outcome(self, case: int) -> str:
        found = self.outcomes[case]
        worst = next(word for word in WORST if word in found)
        count = found.count(worst)
        return f"{worst} ({count})" if worst == "passed" else f"{worst.upper()} ({count} of {len(found)})"
