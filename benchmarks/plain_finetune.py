"""The peer of the main job: a fine-tune with `transformers` as most people write it.

Batches of 32 padded to the longest, AdamW at 5e-5 (the Trainer's default) with linear decay, norms clipped at 1, bf16
autocast where ours uses bf16. Sorted by length within the epoch, so that it pays the least for padding.
"""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import accuracy_score, f1_score

from huiyan.core.devices import multiplies_bf16, peak_memory_bytes

CPU = torch.device("cpu")
Rows = Sequence[tuple[str, str]]


def plain_finetune(folder: Path, known: Rows, test: Rows, *, seed: int, epochs: int) -> dict[str, Any]:
    """Learn the labels of texts, and be measured.

    Args:
        folder: of the pretrained encoder.
        known: texts and their labels to learn from.
        test: the same to be measured on.
        seed: of the head, the dropout and the order.
        epochs: passes over the rows.
    Returns:
        ``accuracy``, ``macro_f1``, ``train_s`` (seconds of the steps), ``rows_per_s`` and ``peak_mb`` of the process.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    names = sorted({label for _, label in known})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))
    encoded = [tokenizer(text, truncation=True, max_length=256)["input_ids"] for text, _ in known]
    order = sorted(range(len(known)), key=lambda row: len(encoded[row]))
    batches = [order[start : start + 32] for start in range(0, len(order), 32)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)
    total = epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    model.train()
    began = time.monotonic()
    for _ in range(epochs):
        random.Random(seed).shuffle(batches)
        for batch in batches:
            inputs = tokenizer.pad({"input_ids": [encoded[row] for row in batch]}, return_tensors="pt")
            target = torch.tensor([names.index(known[row][1]) for row in batch])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=multiplies_bf16(CPU)):
                loss = model(**inputs, labels=target).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    seconds = time.monotonic() - began
    model.eval()
    answers: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(test), 32):
            texts = [text for text, _ in test[start : start + 32]]
            inputs = tokenizer(texts, truncation=True, max_length=256, padding=True, return_tensors="pt")
            answers += [names[choice] for choice in model(**inputs).logits.argmax(-1).tolist()]
    labels = [label for _, label in test]
    return {
        "accuracy": float(accuracy_score(labels, answers)),
        "macro_f1": float(f1_score(labels, answers, average="macro")),
        "train_s": seconds,
        "rows_per_s": len(known) * epochs / seconds,
        "peak_mb": peak_memory_bytes(CPU) / 1e6,
    }
