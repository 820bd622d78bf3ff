"""onnxruntime-extensions' BertTokenizer before a model of ids: an ONNX file that takes text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kbert.export.verify import texts_at

if TYPE_CHECKING:
    from kbert.tasks.task import Task

OPSET = 17
EXTENSIONS = "ai.onnx.contrib"  # the domain of onnxruntime-extensions' ops


def check_tokenizer(task: Task, texts: Sequence[str]) -> None:
    """Raises a ValueError if BertTokenizer cannot read text as the task does.

    Args:
      task: the task.
      texts: the texts whose ids are compared.
    """
    task.onnx_answer()  # refuses a task that does not read one window
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    if task.preprocessor.settings_of_kbert:
        raise ValueError(
            f"onnxruntime-extensions lacks {', '.join(task.preprocessor.settings_of_kbert)}: turn it off to export"
        )
    import onnx

    nodes, constants = _tokenizer_nodes(task)
    text = onnx.helper.make_tensor_value_info("text", onnx.TensorProto.STRING, [1])
    input_ids = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, [1, None])
    graph = onnx.helper.make_graph(nodes, "tokenizer", [text], [input_ids], constants)
    session = _session(onnx.helper.make_model(graph, opset_imports=_opsets(), ir_version=8))
    packed = task.preprocessor(texts)
    ids, lengths = packed["token_ids"].numpy(), packed["padding_mask"].numpy().sum(1)
    other = []
    for place, string in enumerate(texts):
        row = session.run(None, {"text": np.array([string], object)})[0][0]
        if row.tolist() != ids[place, : lengths[place]].tolist():
            other.append(place)
    if other:
        raise ValueError(
            f"onnxruntime-extensions' BertTokenizer gives other ids than the task for {len(other)} of {len(texts)} texts: "
            f'{texts_at((texts,), other)}; give texts= of the kind that the file is for, or export with inputs="tokens"'
        )


def put_tokenizer_before(model: Any, task: Task) -> None:
    """Changes a model of ids, in place, into one that takes a text and gives the task's answer."""
    import onnx
    from onnx import TensorProto, helper

    graph = model.graph
    nodes, constants = _tokenizer_nodes(task)
    wanted = {value.name for value in graph.input}
    nodes = [node for node in nodes if node.op_type != "Unsqueeze" or node.output[0] in wanted]
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, [1]))
    for value in graph.output:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    constants += _append_answer(graph, task)
    model_nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *model_nodes])
    graph.initializer.extend(constants)
    del model.opset_import[:]
    model.opset_import.extend(_opsets())
    onnx.checker.check_model(model)


def _append_answer(graph: Any, task: Task) -> list[Any]:
    """Appends nodes and outputs that turn a graph's `logits` into the task's answer; returns the constants they read."""
    from onnx import TensorProto, helper, numpy_helper

    answer = task.onnx_answer()
    if answer is None:
        return []
    graph.node.append(helper.make_node(answer.operator, ["logits"], [answer.output]))
    graph.output.append(helper.make_tensor_value_info(answer.output, TensorProto.FLOAT, [1, answer.size]))
    if answer.labels is None:
        return []
    graph.node.extend(
        [
            helper.make_node("ArgMax", ["logits"], ["text_best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["text_labels", "text_best"], ["label"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, [1]))
    return [numpy_helper.from_array(np.array(answer.labels, object), "text_labels")]


def _session(model: Any) -> Any:
    """Returns an onnxruntime session of a model that may have onnxruntime-extensions' ops."""
    import onnxruntime
    from onnxruntime_extensions import get_library_path

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _opsets() -> list[Any]:
    """Returns the sets of ops that a model which takes text imports."""
    import onnx

    return [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(EXTENSIONS, 1)]


def _tokenizer_nodes(task: Task) -> tuple[list[Any], list[Any]]:
    """Returns the nodes from `text` to `input_ids`, `attention_mask` and `token_type_ids` `[1, L]`, and their constants."""
    from onnx import helper, numpy_helper

    tokenizer = task.tokenizer
    constants = {
        "text_axis": np.array([0], np.int64),
        "text_start": np.array([0], np.int64),
        "text_room": np.array([task.preprocessor.max_length - 1], np.int64),
        "text_last": np.array([-1], np.int64),
        "text_end": np.array([np.iinfo(np.int64).max], np.int64),
    }
    nodes = [
        helper.make_node(
            "BertTokenizer",
            ["text"],
            ["text_ids", "text_types", "text_mask"],
            domain=EXTENSIONS,
            max_length=-1,
            vocab_file="\n".join(tokenizer.vocabulary).encode("utf-8"),
            do_lower_case=int(tokenizer.lowercase),
            strip_accents=int(tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents),
            tokenize_chinese_chars=int(tokenizer.tokenize_chinese_chars),
            suffix_indicator="##",
            unk_token=tokenizer.unk_token,
            sep_token=tokenizer.sep_token,
            pad_token=tokenizer.pad_token,
            cls_token=tokenizer.cls_token,
            mask_token=tokenizer.mask_token,
        )
    ]
    for part, name in (("ids", "input_ids"), ("types", "token_type_ids"), ("mask", "attention_mask")):
        # A long text is cut before the last place, which [SEP] takes.
        nodes += [
            helper.make_node("Slice", [f"text_{part}", "text_last", "text_end"], [f"text_{part}_end"]),
            helper.make_node("Slice", [f"text_{part}", "text_start", "text_last"], [f"text_{part}_whole"]),
            helper.make_node("Slice", [f"text_{part}_whole", "text_start", "text_room"], [f"text_{part}_cut"]),
            helper.make_node("Concat", [f"text_{part}_cut", f"text_{part}_end"], [f"text_{part}_row"], axis=0),
            helper.make_node("Unsqueeze", [f"text_{part}_row", "text_axis"], [name]),
        ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]
