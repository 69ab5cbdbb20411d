"""How much faster the hierarchical writer is with all sentences at once than image by image, sentence by sentence.

Same weights, same noise, and the reports are checked to be the same. Both go to the last word of the last sentence, so
the ratio does not depend on how long untrained reports happen to be.

    python benchmarks/report_decoding.py [--images 16] [--threads 2]

Source: EMIXER §3.2.2. Needs no data, no Ray and no GPU.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from emixer.config.model import HierarchicalWriterConfig
from emixer.models.hierarchical_writer import STOP, HierarchicalWriter
from emixer.models.noise import RowNoise
from emixer.models.paired_model import END, PAD, START, UNKNOWN
from emixer.models.report_writer import WriterInput

FEATURES, NUM_WORDS, MAX_SENTENCES, MAX_WORDS = 512, 2000, 8, 20
TARGET_RATIO = 8.0


def make_writer() -> HierarchicalWriter:
    """The paper's sentence and word LSTMs."""
    torch.manual_seed(0)
    config = HierarchicalWriterConfig()
    writer = HierarchicalWriter(config, FEATURES, 0, NUM_WORDS, MAX_SENTENCES, MAX_WORDS).eval()
    with torch.no_grad():
        writer.stop.bias[STOP] -= 100
        writer.to_words.bias[END] -= 100
    return writer


@torch.no_grad()
def one_after_another(writer: HierarchicalWriter, image_BV: Tensor, noise: RowNoise) -> Tensor:
    """The plain reading of §3.2.2: for each image, for each sentence, for each word."""
    uniform = noise.uniform("words", MAX_SENTENCES, MAX_WORDS)
    reports = torch.full((len(image_BV), MAX_SENTENCES, MAX_WORDS), PAD)
    for row, features in enumerate(image_BV):
        sentence_state = None
        for sentence in range(MAX_SENTENCES):
            hidden, sentence_state = writer.sentence_lstm(features[None, None], sentence_state)
            _, word_state = writer.word_lstm(writer.topic(hidden))
            word = START
            for place in range(MAX_WORDS):
                output, word_state = writer.word_lstm(writer.word_embedding(torch.tensor([[word]])), word_state)
                logits = writer.to_words(output[0, 0])
                logits[[PAD, START, UNKNOWN]] = -torch.inf
                cumulative = logits.softmax(0).cumsum(0)
                drawn = int(torch.searchsorted(cumulative, uniform[row, sentence, place] * cumulative[-1], right=True))
                word = END if place == MAX_WORDS - 1 else drawn
                reports[row, sentence, place] = word
                if word == END:
                    break
            if writer.stop(hidden)[0, 0].argmax() == STOP:
                break
    return reports


def timed(work: Callable[[], Tensor], repeats: int) -> tuple[Tensor, float]:
    """What `work` gives, and its median time [s]."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return result, statistics.median(times)


def main() -> int:
    """Prints one table; the exit status says whether the target was met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16, help="images in a batch (16)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    writer = make_writer()
    image_BV = torch.randn(arguments.images, FEATURES)
    noise = RowNoise(0, 0, 0, arguments.images, torch.device("cpu"))
    one_after_another(writer, image_BV[:1], noise.rows(0, 1))  # warms up
    together, parallel_s = timed(
        lambda: writer.write(WriterInput(image_BV[:, None]), noise, temperature=1.0), repeats=5
    )
    apart, serial_s = timed(lambda: one_after_another(writer, image_BV, noise), repeats=1)
    same = (together == apart).flatten(1).all(dim=1).float().mean().item()
    ratio = serial_s / parallel_s
    print(
        f"{arguments.images} images x {MAX_SENTENCES} sentences x {MAX_WORDS} words, vocabulary {NUM_WORDS}, ", end=""
    )
    print(f"{arguments.threads} CPU threads; {same:.0%} of the reports are equal word for word\n")
    print(f"{'decoding':<38}{'seconds':>10}{'reports/s':>12}")
    print(f"{'image by image, sentence by sentence':<38}{serial_s:>10.3f}{arguments.images / serial_s:>12.1f}")
    print(f"{'all sentences of a batch at once':<38}{parallel_s:>10.3f}{arguments.images / parallel_s:>12.1f}")
    print(f"\nratio {ratio:.1f} x (target {TARGET_RATIO:.0f} x)")
    return 0 if ratio >= TARGET_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
