"""`vqathinker compare`: which of two videos is better and with what probability; of more, a ranking."""

import argparse
import json
import sys
from pathlib import Path

from vqathinker_verl.cli.faults import print_left_out
from vqathinker_verl.inference.asking import answer_missing, prediction_row
from vqathinker_verl.inference.comparison import MIN_PROB, Ranked, check_min_prob, preference_prob, rank
from vqathinker_verl.inference.engines import EngineError, Request
from vqathinker_verl.inference.options import add_engine_options, add_question_options, add_root_option, asking_from
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.scoring import check_videos, find_videos

EXAMPLE = "vqathinker compare a.mp4 b.mp4 --model outputs/model"
EXIT_CODES = """0: compared; 1: compared, but some videos have no score (each is named)
2: nothing could be compared"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker compare`."""
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO|DIR", help="two or more videos, or folders")
    result = parser.add_argument_group("result")
    result.add_argument("--format", choices=("text", "json"), default="text", help="what is printed")
    result.add_argument(
        "--min-prob",
        type=float,
        default=MIN_PROB,
        metavar="P",
        help="a pair is decided if one of the two is better with at least this probability",
    )
    add_root_option(parser)
    add_engine_options(parser)
    add_question_options(parser)


def run(args: argparse.Namespace) -> int:
    """Compare; 0 done, 1 some videos have no score, 2 not done."""
    try:
        return _compare(args)
    except (ValueError, EngineError) as error:
        print(f"vqathinker compare: {error}", file=sys.stderr)
        return 2


def _compare(args: argparse.Namespace) -> int:
    check_min_prob(args.min_prob)  # before a model is loaded
    videos = find_videos(args.videos, args.video_root)
    print_left_out("compare", args.videos)
    if len(videos) < 2:
        raise ValueError(f"expected at least two videos to compare, got {len(videos)}")
    check_videos(videos.values())
    if args.scoring == "greedy":
        raise ValueError("--scoring greedy gives no probabilities; expected expectation, or mean with --num-samples K")
    if args.scoring is None and args.num_samples is None:
        args.scoring = "expectation"
    settings = asking_from(args)
    if settings.num_samples < 2 and not settings.expectation:
        raise ValueError("one response gives no probabilities; expected --scoring expectation or --num-samples K")
    requests = {video_id: Request(video, settings.prompt) for video_id, video in videos.items()}
    rows = answer_missing(requests, settings, prediction_row(settings, requests))
    found = [Prediction.from_json(row) for row in rows]
    ranking = rank(found, min_prob=args.min_prob)
    known = {place.prediction.video_id for place in ranking}
    without = [one for one in found if one.video_id not in known]
    for one in without:
        print(f"vqathinker compare: {one.error or f'{one.video_id}: the response gives no score'}", file=sys.stderr)
    if len(ranking) < 2:
        raise ValueError(f"{len(ranking)} of {len(found)} videos have a score; expected at least two")
    if args.format == "json":
        print(json.dumps(_as_json(found, ranking), indent=2, ensure_ascii=False))
    elif len(found) == 2:
        print(_sentence(found[0], found[1], args.min_prob))
    else:
        print("\n".join(_lines(ranking)))
    return 1 if without else 0


def _sentence(a: Prediction, b: Prediction, min_prob: float) -> str:
    prob = preference_prob(a, b)
    better, other, sure = (a, b, prob) if prob >= 0.5 else (b, a, 1 - prob)
    verdict = f"{better.video_id} is better than {other.video_id} with probability {sure:.2f}"
    if sure < min_prob:
        verdict += f": the two cannot be told apart (below {min_prob:g})"
    scores = "; ".join(f"{one.video_id} {one.pred_mos:.2f} ±{one.pred_mos_std:.2f}" for one in (a, b))
    return f"{verdict}\n{scores}"


def _lines(ranking: list[Ranked]) -> list[str]:
    lines = ["rank  score  spread  video"]
    for place in ranking:
        one = place.prediction
        unclear = f"  (not told apart from {', '.join(place.unclear)})" if place.unclear else ""
        lines.append(f"{place.rank:4}  {one.pred_mos:5.2f}  ±{one.pred_mos_std:.2f}   {one.video_id}{unclear}")
    return lines


def _as_json(found: list[Prediction], ranking: list[Ranked]) -> dict[str, object]:
    ranked = {place.prediction.video_id for place in ranking}
    scored = [one for one in found if one.video_id in ranked]
    pairs = [
        {"a": a.video_id, "b": b.video_id, "preference_prob": preference_prob(a, b)}
        for number, a in enumerate(scored)
        for b in scored[number + 1 :]
    ]
    places = [{**place.prediction.as_json(), "rank": place.rank, "unclear": list(place.unclear)} for place in ranking]
    return {"ranking": places, "pairs": pairs}
