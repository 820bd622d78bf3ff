"""Searches BBC News by meaning, then freezes the embedder and times both.

    python examples/semantic_search.py "court case about online music"

Seen on two cores:

    embedder: 2,127 articles in 39 s
    frozen: 2,127 articles in 36 s

    court case about online music
      0.57  tech: Musicians 'upbeat' about the net
      0.56  tech: ITunes user sues Apple over iPod

    a runner wins gold
      0.44  sports: Radcliffe tackles marathon tasks
      0.42  sports: Gatlin and Hayes win Owen awards

    the pound falls against the dollar
      0.56  business: Markets fall on weak dollar fears
      0.56  business: Battered dollar hits another low
"""

import sys
import time

import kbert
from kbert.commands.demo import read_news

queries = sys.argv[1:] or ["court case about online music", "a runner wins gold", "the pound falls against the dollar"]
articles, topics = read_news()

embedder = kbert.TextEmbedder.from_preset("all-minilm-l6-v2", max_length=128)
fast = embedder.freeze()
for name, engine in (("embedder", embedder), ("frozen", fast)):
    engine.embed(articles[:50])  # compiles
    started = time.perf_counter()
    vectors = engine.embed(articles)
    print(f"{name}: {len(articles):,} articles in {time.perf_counter() - started:.0f} s")

for query, found in zip(queries, fast.search(queries, vectors, top_k=2)):
    print(f"\n{query}")
    for one in found:
        headline = articles[one["place"]].split("\n")[0]
        print(f"  {one['score']:.2f}  {topics[one['place']]}: {headline}")
