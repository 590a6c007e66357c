"""Score every video of a folder with a trained model, and print the worst first.

    python examples/score_folder.py VIDEOS MODEL

MODEL is what `vqathinker export` made of a checkpoint, or a training run. `vqathinker score` gives the same scores, and
writes a file that it can resume.
"""

import sys
from pathlib import Path

from vqathinker_verl.inference.engines import open_engine
from vqathinker_verl.inference.scoring import find_videos, score_videos


def main(folder: str, model: str) -> None:
    """Print score, video and response, worst first, and what could not be scored last."""
    engine = open_engine(model)  # frames, question and sampling are the model's own
    lines = list(score_videos(find_videos([Path(folder)]), engine))
    for line in sorted((line for line in lines if line["pred_mos"] is not None), key=lambda line: line["pred_mos"]):
        print(f"{line['pred_mos']:.2f}  {line['video_id']}  {line['response']}")
    for line in lines:
        if line["pred_mos"] is None:
            print(f"none  {line['video_id']}  {line['error'] or line['response']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
