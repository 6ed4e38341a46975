"""What a turn says is taken once, in order, in messages that their receivers accept."""

from __future__ import annotations

from dfmq.nodes.mail import Mail
from dfmq.wire import codec, envelope
from dfmq.wire.messages import Stop


def test_what_is_said_to_one_receiver_goes_in_one_message_in_its_order() -> None:
    mail = Mail[bytes]()
    for lease in (3, 1, 2):
        mail.put(b"child", Stop(lease=lease))
    mail.put(b"other", Stop(lease=9))
    taken = list(mail.take())
    assert [receiver for receiver, _ in taken] == [b"child", b"other"]
    (frames,) = taken[0][1]
    heard = [codec.parent_hears.decode(body) for body in envelope.unwrap(frames)]
    assert heard == [Stop(lease=3), Stop(lease=1), Stop(lease=2)]


def test_more_than_a_message_may_hold_is_said_in_several() -> None:
    mail = Mail[bytes]()
    count = 2 * envelope.MOST_BODIES + 1
    for lease in range(count):
        mail.put(b"client", Stop(lease=lease))
    ((_, messages),) = mail.take()
    heard = [codec.parent_hears.decode(body) for frames in messages for body in envelope.unwrap(frames)]
    assert heard == [Stop(lease=lease) for lease in range(count)]


def test_what_was_taken_or_cleared_is_said_no_more() -> None:
    mail = Mail[None]()
    assert not mail
    mail.put(None, Stop(lease=1))
    assert mail
    assert len(list(mail.take())) == 1
    assert list(mail.take()) == []
    mail.put(None, Stop(lease=2))
    mail.clear()
    assert not mail
    assert list(mail.take()) == []
