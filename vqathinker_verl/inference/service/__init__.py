"""The HTTP service of `vqathinker serve`: videos in, scores out, requests that arrive together in one batch.

    scorer = VideoScorer("outputs/model")
    app = create_app(scorer, ServiceSettings(video_roots=(Path("/data/clips"),)))  # a FastAPI app

`app.py` has the endpoints, `videos.py` what a request may bring, `batching.py` the queue, `run.py` the process.
"""
