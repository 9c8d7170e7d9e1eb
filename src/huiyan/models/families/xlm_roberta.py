"""XLM-RoBERTa: RoBERTa over 100 languages, in every respect but its vocabulary. Source: Conneau et al. 2020."""

import dataclasses

from huiyan.models.families import roberta

FAMILY = dataclasses.replace(roberta.FAMILY, name="xlm-roberta", architecture="XLMRobertaForSequenceClassification")
