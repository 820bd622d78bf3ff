"""The figures of SQuAD 2 equal the official script's, which is written out here question by question."""

import random

import pytest

from kbert.scoring.squad import normalize_answer, squad2_scores, squad_scores

WORDS = ["the", "a", "bank", "of", "England", "U.S.", "1,000", "two-week", "."]


def official(predictions, answers, no_answer, threshold):
    """The script's steps by question: raw scores, the threshold applied, the means, and the search of the best threshold."""

    def f1(gold, predicted):
        gold, predicted = normalize_answer(gold).split(), normalize_answer(predicted).split()
        same = sum(min(gold.count(word), predicted.count(word)) for word in set(gold))
        if not gold or not predicted:
            return int(gold == predicted)
        if not same:
            return 0
        precision, recall = same / len(predicted), same / len(gold)
        return 2 * precision * recall / (precision + recall)

    raw = {"exact": {}, "f1": {}}
    has_answer = {}
    for question, (predicted, right) in enumerate(zip(predictions, answers)):
        golds = [gold for gold in right if normalize_answer(gold)] or [""]
        raw["exact"][question] = max(int(normalize_answer(gold) == normalize_answer(predicted)) for gold in golds)
        raw["f1"][question] = max(f1(gold, predicted) for gold in golds)
        has_answer[question] = bool(right)

    result = {}
    for name, scores in raw.items():
        applied = {q: float(not has_answer[q]) if no_answer[q] > threshold else score for q, score in scores.items()}
        for kind, questions in (
            ("", list(scores)),
            ("HasAns_", [q for q in scores if has_answer[q]]),
            ("NoAns_", [q for q in scores if not has_answer[q]]),
        ):
            if questions:
                result[f"{kind}{name}"] = 100.0 * sum(applied[q] for q in questions) / len(questions)
                result[f"{kind}total"] = len(questions)
        current = best = sum(not has for has in has_answer.values())
        best_threshold = 0.0
        for question in sorted(scores, key=lambda q: no_answer[q]):
            current += scores[question] if has_answer[question] else (-1 if predictions[question] else 0)
            if current > best:
                best, best_threshold = current, no_answer[question]
        result[f"best_{name}"], result[f"best_{name}_thresh"] = 100.0 * best / len(scores), best_threshold
    result["exact_match"] = result.pop("exact")
    return result


def cases(seed, low, count=30):
    draw = random.Random(seed)
    text = lambda most: " ".join(draw.choices(WORDS, k=draw.randint(0, most)))  # noqa: E731
    answers = [[text(3) for _ in range(draw.randint(0, 3))] if draw.random() < 0.6 else [] for _ in range(count)]
    predictions = [draw.choice(right) if right and draw.random() < 0.6 else text(3) for right in answers]
    return predictions, answers, [round(draw.uniform(low, 1), draw.choice((1, 3))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(40))
def test_figures_equal_the_official_scripts(seed):
    predictions, answers, no_answer = cases(seed, low=0.01)
    for threshold in (1.0, 0.4):
        assert squad2_scores(predictions, answers, no_answer, threshold) == pytest.approx(
            official(predictions, answers, no_answer, threshold)
        )


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_gives_the_best_score(seed):
    """Of logits, which may be negative, too. An answer that is an article alone is nothing, which the search does not know."""
    predictions, answers, no_answer = cases(seed, low=-1)
    no_answer = [value + place * 1e-6 for place, value in enumerate(no_answer)]  # no two are equal
    figures = squad2_scores(predictions, answers, no_answer)
    for name in ("exact", "f1"):
        again = squad2_scores(predictions, answers, no_answer, threshold=figures[f"best_{name}_thresh"])
        assert again["exact_match" if name == "exact" else "f1"] >= figures[f"best_{name}"] - 1e-9


def test_weights_count_questions_several_times():
    predictions, answers, no_answer = cases(3, low=-1, count=6)
    times = [2, 1, 3, 1, 1, 2]
    repeated = [
        [value for value, count in zip(column, times) for _ in range(count)] for column in (predictions, answers, no_answer)
    ]
    assert squad2_scores(predictions, answers, no_answer, weights=times) == pytest.approx(squad2_scores(*repeated))
    assert squad_scores(predictions, answers, times) == pytest.approx(squad_scores(*repeated[:2]))


def test_questions_of_one_kind_alone():
    assert "NoAns_total" not in squad2_scores(["a"], [["b"]], [0.0])
    scores = squad2_scores(["bank"], [[]], [-2.0])
    assert "HasAns_total" not in scores and scores["exact_match"] == 0 and scores["best_exact"] == 100
    assert scores["best_exact_thresh"] < -2
