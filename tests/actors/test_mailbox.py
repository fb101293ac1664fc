from hypothesis import given
from hypothesis import strategies as st

from actors.mailbox import Mailbox
from tests.actors.pieces import waiting

Move = tuple[str, bool]
moves = st.lists(st.tuples(st.sampled_from(["put", "first", "take", "remove"]), st.booleans()), max_size=40)


@given(moves)
def test_it_behaves_like_two_lists(steps: list[Move]) -> None:
    mailbox, user, background = Mailbox(), list[int](), list[int]()
    for seq, (move, flag) in enumerate(steps):
        match move:
            case "put":
                mailbox.put(waiting(seq, lane="background" if flag else "user"))
                (background if flag else user).append(seq)
            case "first":
                mailbox.put_first(waiting(seq))
                user.insert(0, seq)
            case "take":
                expected = user.pop(0) if user else background.pop(0) if background else None
                taken = mailbox.take()
                assert (taken.seq if taken else None) == expected
            case _:
                lane = background if flag else user
                seq = lane[len(lane) // 2] if lane else -1
                removed = mailbox.remove(f"run-{seq}")
                assert (removed.seq if removed else -1) == seq
                if lane:
                    lane.remove(seq)
        assert [w.seq for w in mailbox] == user + background
        assert len(mailbox) == len(user) + len(background)


def test_background_waits_for_every_user_command() -> None:
    mailbox = Mailbox()
    mailbox.put(waiting(1, lane="background"))
    mailbox.put(waiting(2))
    mailbox.put_first(waiting(3))
    assert [w.seq for w in iter(mailbox.take, None)] == [3, 2, 1]


def test_what_an_earlier_life_began_comes_before_everything() -> None:
    mailbox = Mailbox()
    mailbox.put(waiting(1))
    mailbox.put(waiting(2, lane="background", applied=True))
    mailbox.put(waiting(3, applied=True))
    mailbox.put_first(waiting(4))
    assert [w.seq for w in iter(mailbox.take, None)] == [2, 3, 4, 1]
