"""Score every video of a folder with a trained model, and print the worst first.

    python examples/score_folder.py VIDEOS MODEL

MODEL is what `vqathinker export` made of a checkpoint, or a training run. `vqathinker score` gives the same scores, and
writes a file that it can resume.
"""

import sys

from vqathinker_verl import VideoScorer


def main(folder: str, model: str) -> None:
    """Print score, video and response, worst first, and what could not be scored last."""
    with VideoScorer(model) as scorer:  # frames, question and sampling are the model's own
        results = scorer.score(folder)
    for result in sorted((result for result in results if result.scored), key=lambda result: result.score):
        print(f"{result.score:.2f}  {result.video_id}  {result.response}")
    for result in results:
        if not result.scored:
            print(f"none  {result.video_id}  {result.error or result.response}")


if __name__ == "__main__":
    main(*sys.argv[1:])
