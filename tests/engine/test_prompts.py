import pytest
import torch

from engine.fatezero.prompts import align, refine_matrix, replace_matrix, token_weights, token_window

JEEP = "a silver jeep driving down a curvy road in the countryside"
PORSCHE = "a Porsche car driving down a curvy road in the countryside"


@pytest.mark.parametrize("text", [JEEP, PORSCHE, "", "bushes, don't stop!  two   spaces", "ünïcode 漢字 :-)"])
def test_word_by_word_gives_the_tokens_of_the_whole(model, read, text):
    prompt = read(text)
    assert list(prompt.tokens) == model.tokenizer(text)["input_ids"]
    assert [k for span in prompt.spans for k in span] == list(range(1, len(prompt.tokens) - 1))


def test_words_that_do_not_fit_are_named(read):
    prompt = read("word " * 100 + "last")
    assert len(prompt.tokens) == 77
    assert prompt.cut and prompt.cut[-1] == "last"
    assert prompt.positions(["last"]) == []


def test_alignment_leaves_new_words_without_partner(read):
    assert align((0, 5, 6, 9), (0, 7, 5, 6, 9)) == [0, None, 1, 2, 3]
    assert align((1, 2), (3, 4)) == [None, None]


def test_refine_pairs_padding_with_itself(read):
    source, target = read(JEEP), read("watercolor painting of " + JEEP)
    matrix = refine_matrix(source, target)
    count = len(target.tokens)
    assert torch.equal(matrix[count:, count:], torch.eye(77 - count))
    assert matrix[:, target.positions(["watercolor", "painting"])].sum() == 0
    assert set(matrix.sum(0).tolist()) == {0.0, 1.0}


def test_replace_spreads_a_word_over_another_number_of_tokens(read):
    source, target = read(JEEP), read(PORSCHE)
    matrix = replace_matrix(source, target)
    for old, new in ((1, 1), (2, 2)):
        rows, columns = source.spans[old], target.spans[new]
        part = matrix[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        expected = torch.eye(len(rows)) if len(rows) == len(columns) else torch.full(part.shape, 1 / len(columns))
        assert torch.equal(part, expected)
    assert matrix[76, 76] == 1.0


def test_equalizer_and_windows_act_on_whole_words(read):
    target = read(PORSCHE)
    weights = token_weights(target, {"car": 4.0})
    assert weights[target.positions(["car"])].tolist() == [4.0] * len(target.positions(["car"]))
    assert weights.sum() == 77 + 3 * len(target.positions(["car"]))
    window = token_window(target, 9, (0.0, 0.5), {"road": (0.2, 1.0)})
    assert window[:, 0].tolist() == [1.0] * 5 + [0.0] * 5
    assert window[:, target.positions(["road"])[0]].tolist() == [0.0] * 2 + [1.0] * 8
