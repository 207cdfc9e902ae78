"""The demonstration does the whole job and says the truth about it."""

import re

from integration.serve_process import run


async def test_the_demonstration_shows_what_is_kept_until_when_for_what_and_why() -> None:
    shown = await run({}, "demo", "--once")

    assert shown.status == 0, shown.err
    rows = {line[:34].strip(): line for line in shown.out.splitlines()}
    reasons = {
        "Ana, pro, agreed": ("ELIGIBLE_CONSENT", "TRAIN", "yes"),
        "Ben, free, refused": ("CONSENT_REFUSED", "SERVICE", "no"),
        "Chloé, max, has not chosen": ("CONSENT_UNKNOWN", "SERVICE", "no"),
        "Dina, pro, agreed, then withdrew": ("CONSENT_WITHDRAWN", "SERVICE", "no"),
        "Ana again, incognito": ("INCOGNITO", "SERVICE", "no"),
        "Elif, team (exempt)": ("PLAN_EXEMPT", "nothing", "-"),
        "somebody unknown": ("PLAN_UNKNOWN", "SERVICE", "no"),
    }
    for who, words in reasons.items():
        line = next(line for name, line in rows.items() if name.startswith(who))
        for word in words:
            assert word in line.split() or word in line
    assert re.search(r"In the \d+ files", shown.out)
    assert "stands 0 times" in shown.out
    assert "43 50 01 01" in shown.out
    assert shown.out.count("\ncurl ") == 2
    assert shown.err == ""
