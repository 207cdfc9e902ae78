"""How much of what should go does redaction find, how much of what it finds should stay, and how fast is it?

``python benchmarks/redaction.py [--texts 20000] [--corpus known|open|held]``

Recall is of spans that are covered to the last byte; precision of finds that touch a span. The corpus is made, so the
figures hold for the forms that it has, not for whatever people write. ``known`` (``tests/simulators/personal_data.py``) was
written beside the patterns; ``open`` and ``held`` (``tests/simulators/published_forms.py``) apart from them.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chatproxy.datasets.patterns import PatternFinder
from chatproxy.datasets.redaction import Redactor, apart
from simulators import personal_data, published_forms


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--corpus", choices=("known", "open", "held"), default="known")
    parser.add_argument("--misses", action="store_true")
    options = parser.parse_args()
    if options.corpus == "known":
        texts = personal_data.corpus(options.texts, seed=1)
    else:
        texts = list(published_forms.corpus(options.texts, seed=1, half=options.corpus))
    finder = PatternFinder()
    planted, covered, found, right = Counter(), Counter(), Counter(), Counter()
    for each in texts:
        plain = each.text.encode()
        finds = sorted(finder.find(plain), key=lambda find: (find.start, -find.end))
        taken = [(find.start, find.end, str(find.kind)) for find in apart(finds)]
        holes = bytearray(len(plain))
        for start, end, _ in taken:
            holes[start:end] = b"\1" * (end - start)
        for start, end, kind in each.spans:
            planted[kind] += 1
            if all(holes[start:end]):
                covered[kind] += 1
            elif options.misses:
                print("MISSED", kind, plain[start:end].decode(), "|", each.text)
        for start, end, kind in taken:
            found[kind] += 1
            if any(start < span_end and span_start < end for span_start, span_end, _ in each.spans):
                right[kind] += 1
            elif options.misses:
                print("TOO MUCH", kind, plain[start:end].decode(), "|", each.text)
    print("| kind | planted | recall | found | precision |")
    print("|---|--:|--:|--:|--:|")
    for kind in sorted(planted | found):
        recall = f"{covered[kind] / planted[kind]:.4f}" if planted[kind] else "-"
        precision = f"{right[kind] / found[kind]:.4f}" if found[kind] else "-"
        print(f"| `{kind}` | {planted[kind]} | {recall} | {found[kind]} | {precision} |")
    print(
        f"| all | {planted.total()} | {covered.total() / planted.total():.4f} "
        f"| {found.total()} | {right.total() / found.total():.4f} |"
    )
    redactor = Redactor()
    dense = [each.text for each in texts]
    prose = [
        "Pouvez-vous m'expliquer la différence entre ces deux approches, avec un exemple simple ? " * 20
        + text
        for text in dense[:5000]
    ]
    for name, some in (("dense", dense), ("prose", prose)):
        size = sum(len(text.encode()) for text in some)
        begun = time.process_time()
        for text in some:
            redactor.text(text, Counter())
        print(
            f"{name}: {size / (time.process_time() - begun) / 1e6:.0f} MB/s a core, {size // len(some)} bytes a text"
        )


if __name__ == "__main__":
    main()
