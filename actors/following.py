"""What a follower of one run is given of a log: the run's own events, and what is beside them."""

from collections.abc import Callable, Sequence

from actors.events import Event, Logged, QueueChanged, RunFinished, RunSteered

ENDS = (RunSteered, RunFinished)  # of a run by itself

Beside = Callable[[Event, str], bool]  # whether an event that is not a run's own concerns it


class Following:
    """Chooses the events of a log for a follower of one run; `run_id` is the run that is followed now."""

    __slots__ = ("_begun", "_beside", "ended", "run_id")

    def __init__(self, run_id: str, beside: Beside | None) -> None:
        self.run_id = run_id
        self.ended = False
        self._begun = False
        self._beside = beside

    def of(self, first: int, events: Sequence[Event]) -> list[Logged]:
        """Return those of these events, the first of them at offset `first`, that the follower is given."""
        batch: list[Logged] = []
        run_id, beside = self.run_id, self._beside
        for offset, event in enumerate(events, first):
            if event.run_id == run_id and type(event) is not QueueChanged:
                self._begun = True
                batch.append(Logged(offset, event))
                if isinstance(event, ENDS) and self._ends(event):
                    break
                run_id = self.run_id
            elif self._begun and beside is not None and beside(event, run_id):
                batch.append(Logged(offset, event))
        return batch

    def _ends(self, event: RunSteered | RunFinished) -> bool:
        """Say whether nothing follows an end of the run's own; else it is followed into the run it joined."""
        if isinstance(event, RunSteered):
            self.run_id = event.into
            return False
        self.ended = True
        return True
