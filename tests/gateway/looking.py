"""What the doctor's tests look with: a place where findings are kept."""

from gateway.doctor.findings import Finding


class Kept:
    """Keeps findings by what was looked at."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self.looked: list[str] = []

    def looking(self, what: str) -> None:
        self.looked.append(what)

    def found(self, finding: Finding) -> None:
        self.all.append(finding)

    def level(self, check: str) -> str:
        """Return the level of the one finding of this check."""
        return self.one(check).level

    def one(self, check: str) -> Finding:
        [finding] = [f for f in self.all if f.check == check]
        return finding
