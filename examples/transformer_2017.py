"""The Transformer of 2017 learns to turn a row of digits round, in less than a minute on two cores.

Run: python examples/transformer_2017.py [--steps 600] [--task reverse|copy]
"""

import argparse
import random

import torch

from huiyan.models import GenerationConfig, fresh_language_model, generate_tokens
from huiyan.models.families.transformer_2017 import transformer_2017
from huiyan.tasks.language_model import next_token_loss
from huiyan.training.schedules import inverse_root_rate

START, END, FIRST = 0, 1, 2
DIGITS = range(FIRST, FIRST + 10)


def rows_of(n: int, source: random.Random) -> list[list[int]]:
    """Rows of 3 to 10 digits, as tokens."""
    return [source.choices(DIGITS, k=source.randint(3, 10)) for _ in range(n)]


def learn(task: str, steps: int) -> float:
    """Train, and tell how many of 200 new rows come out right."""
    answer = {"copy": list, "reverse": lambda row: row[::-1]}[task]
    config = transformer_2017(12, start_id=START, width=64, n_layers=2, n_heads=4, feed_forward_width=128, dropout=0.0)
    model = fresh_language_model(config, seed=0)
    # Section 5.3: Adam with these numbers, and a rate that rises, then falls with the root of the step.
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    chance = random.Random(0)
    for step in range(1, steps + 1):
        optimiser.param_groups[0]["lr"] = inverse_root_rate(step, width=64, warmup=steps // 4, factor=0.3)
        sources = rows_of(64, chance)
        texts = [[START, *answer(row), END] for row in sources]
        loss = next_token_loss(model, texts, sources, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    new = rows_of(200, chance)
    written = generate_tokens(model.eval(), new, GenerationConfig(max_tokens=12, end_ids=(END,)))
    right = sum(texts[0].tokens == [*answer(row), END] for row, texts in zip(new, written, strict=True))
    print(f"{right} of {len(new)} new rows are right")
    return right / len(new)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--task", choices=("copy", "reverse"), default="reverse")
    given = parser.parse_args()
    learn(given.task, given.steps)
