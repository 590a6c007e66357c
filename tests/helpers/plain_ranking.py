"""The ranking reward as a plain double loop over responses and videos, straight from SPEC section 3."""

import math


def plain_ranking_reward(pred_mos, mos, group_ids, data_sources=None, eps=1e-6):
    sources = data_sources if data_sources is not None else [0] * len(pred_mos)
    groups = {}
    for score, target, group, source in zip(pred_mos, mos, group_ids, sources, strict=True):
        entry = groups.setdefault(group, {"mos": target, "source": source, "scores": []})
        if not math.isnan(score):
            entry["scores"].append(score)
    for entry in groups.values():
        scores = entry["scores"]
        entry["mean"] = sum(scores) / len(scores) if scores else None
        entry["var"] = (
            sum((score - entry["mean"]) ** 2 for score in scores) / (len(scores) - 1) if len(scores) > 1 else 0.0
        )
    rewards = []
    for score, group in zip(pred_mos, group_ids, strict=True):
        own, fidelities = groups[group], []
        for other, compared in groups.items():
            if other == group or compared["mean"] is None or compared["source"] != own["source"] or math.isnan(score):
                continue
            z = (score - compared["mean"]) / math.sqrt(own["var"] + compared["var"] + eps)
            p = 0.5 * math.erfc(-z / math.sqrt(2))
            t = 1.0 if own["mos"] > compared["mos"] else 0.0 if own["mos"] < compared["mos"] else 0.5
            fidelities.append(math.sqrt(p * t + eps) + math.sqrt((1 - p) * (1 - t) + eps))
        rewards.append(sum(fidelities) / len(fidelities) if fidelities else 0.0)
    return rewards
