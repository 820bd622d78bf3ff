"""ONNX files: token ids in, for onnxruntime and for code that reads Hugging Face's exports; or text in, with onnxruntime-extensions."""

import warnings

import numpy as np
import tensorflow as tf

from kbert.export.exported_file import ONNX_NAMES, ONNX_OUTPUTS, OnnxFile
from kbert.export.verify import PROBES, TOLERANCE, check, say_untrained, texts_at
from kbert.files.atomic import check_target, written_aside
from kbert.tasks.text_classifier import MULTI, REGRESSION, TextClassifier
from kbert.tasks.text_embedder import TextEmbedder

OPSET = 17
EXTENSIONS = "ai.onnx.contrib"  # the domain of onnxruntime-extensions' ops


def export_onnx(task, path, inputs="tokens", quantize=None, texts=None, overwrite=False, verify=True):
    """Writes an ONNX file with the names of Hugging Face's exports, so that code for those runs it.

    >>> export_onnx(task, "emotion.onnx")  # doctest: +SKIP

    Inputs `input_ids`, `attention_mask` and, where the encoder has segments, `token_type_ids`, int64 `[B, L]`; outputs `logits`, of a
    `QuestionAnswerer` `start_logits` and `end_logits`, of a `TextEmbedder` `sentence_embedding`. Any batch size and length.

    With `inputs="text"` it takes `text`, string `[1]`, and gives of a `TextClassifier` `probabilities` `[1, labels]` and `label` too. Text is
    then read by onnxruntime-extensions' BertTokenizer, which the session needs (`SessionOptions.register_custom_ops_library`), and which
    reads some scripts in another way than BERT. So the ids are compared first, and the export refused where they differ.

    Args:
      task: any task; with `inputs="text"` a `TextClassifier` or a `TextEmbedder`.
      path: the file to write.
      inputs: `"tokens"` or `"text"`.
      quantize: `"int8"` stores the weights of matrix products in a quarter of the bytes, by onnxruntime's quantizer.
      texts: with `inputs="text"`, texts of the kind that the file is for, on which the ids have to be equal; by default a built-in set with
        many scripts, of which BertTokenizer reads Hindi, Thai and Korean otherwise.
      overwrite: replace a file that is there.
      verify: check the file with `onnx.checker`, run it, and compare it with the task before it takes its place; int8, that it gives numbers.

    Returns:
      The path.

    Raises:
      FileExistsError: the file is there; ImportError: the extra `onnx` is missing; ValueError: other arguments, or texts that BertTokenizer
        reads otherwise; RuntimeError: the outputs differ.
    """
    path = check_target(path, overwrite)
    if inputs not in ("tokens", "text"):
        raise ValueError(f'inputs should be "tokens" or "text", got {inputs!r}')
    if texts is not None and inputs != "text":
        raise ValueError('texts are for inputs="text", whose ids are compared on them')
    if quantize not in (None, "int8"):
        raise ValueError(f"quantize should be None or 'int8', got {quantize!r}")
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ImportError('ONNX files are written with tf2onnx: pip install "kbert[onnx]"') from error
    if inputs == "text":
        texts = PROBES if texts is None else list(texts)
        check_tokenizer(task, texts)
    say_untrained(task)
    names = [name for name in ONNX_NAMES if name != "token_type_ids" or task.encoder.config.type_vocab_size]

    def answer(*columns):
        packed = {ONNX_NAMES[name]: tf.cast(column, tf.int32) for name, column in zip(names, columns)}
        packed.setdefault("segment_ids", tf.zeros_like(packed["token_ids"]))
        outputs = task(packed, training=False)
        if isinstance(outputs, dict):
            return outputs
        return {"sentence_embedding" if isinstance(task, TextEmbedder) else "logits": outputs}

    spec = [tf.TensorSpec([None, None], tf.int64, name=name) for name in names]
    with task.encoder.padded():
        function = tf.function(answer, input_signature=spec, autograph=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, _ = tf2onnx.convert.from_function(function, input_signature=spec, opset=OPSET)
    for value in (*model.graph.input, *model.graph.output):  # names in place of tf2onnx's unk__1
        for axis, dimension in zip(("batch", "length"), value.type.tensor_type.shape.dim):
            if not dimension.dim_value:
                dimension.dim_param = axis
    onnx.checker.check_model(model)
    with written_aside(path) as aside:
        onnx.save(model, aside)
        if verify and task.preprocessor is None:
            _compare_random_ids(aside, task, function, names)
        elif verify:
            check(aside, task)
        if quantize:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            whole = aside.with_name(f"whole-{aside.name}")
            aside.rename(whole)
            quantize_dynamic(whole, aside, weight_type=QuantType.QInt8)
            whole.unlink()
        if inputs == "text":
            model = onnx.load(aside)
            put_tokenizer_before(model, task)
            onnx.save(model, aside)
        if verify and task.preprocessor is not None and (quantize or inputs == "text"):
            check(aside, task, columns=(texts,) if texts else None, tolerance=None if quantize else TOLERANCE)
    return path


def _compare_random_ids(path, task, function, names):
    """The check of a task without a tokenizer: the file's outputs beside the traced function's."""
    config, random, file = task.encoder.config, np.random.default_rng(0), OnnxFile(path)
    for shape in ((3, min(16, config.max_position_embeddings)), (1, 4)):
        ids = random.integers(0, config.vocab_size, shape)
        packed = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
        found = file.run(packed)
        ours = function(*(tf.constant(packed[ONNX_NAMES[name]]) for name in names))
        for name, value in ours.items():
            apart = float(np.abs(found[ONNX_OUTPUTS.get(name, name)] - value.numpy()).max(initial=0))
            if not apart <= TOLERANCE:
                raise RuntimeError(f"{name} of the ONNX file differs from the task's by up to {apart:.1e}")


# Text in


def check_tokenizer(task, texts):
    """Raises where onnxruntime-extensions cannot read text as the task does."""
    if not isinstance(task, (TextClassifier, TextEmbedder)) or getattr(task, "window_stride", None) is not None:
        raise ValueError(
            f'inputs="text" is for a TextClassifier or a TextEmbedder that reads one window, not for this {type(task).__name__}; '
            'inputs="tokens" gives its outputs'
        )
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    if task.tokenizer.recognize_special_tokens:
        raise ValueError("onnxruntime-extensions has no special tokens in texts: turn recognize_special_tokens off to export")
    import onnx

    nodes, constants = _tokenizer_nodes(task)
    given = onnx.helper.make_tensor_value_info("text", onnx.TensorProto.STRING, [1])
    made = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, [1, None])
    graph = onnx.helper.make_graph(nodes, "tokenizer", [given], [made], constants)
    session = _session(onnx.helper.make_model(graph, opset_imports=_opsets(), ir_version=8))
    packed = task.preprocessor(texts)
    ids, lengths = packed["token_ids"].numpy(), packed["padding_mask"].numpy().sum(1)
    other = []
    for place, text in enumerate(texts):
        found = session.run(None, {"text": np.array([text], object)})[0][0]
        if found.tolist() != ids[place, : lengths[place]].tolist():
            other.append(place)
    if other:
        raise ValueError(
            f"onnxruntime-extensions' BertTokenizer gives other ids than the task for {len(other)} of {len(texts)} texts: "
            f'{texts_at((texts,), other)}; give texts= of the kind that the file is for, or export with inputs="tokens"'
        )


def _session(model):
    import onnxruntime
    from onnxruntime_extensions import get_library_path

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _opsets():
    import onnx

    return [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(EXTENSIONS, 1)]


def _tokenizer_nodes(task):
    """Nodes from `text` to `input_ids`, `attention_mask` and `token_type_ids` `[1, L]`, and their constants."""
    from onnx import helper, numpy_helper

    tokenizer = task.tokenizer
    constants = {
        "text_axis": np.array([0], np.int64), "text_start": np.array([0], np.int64),
        "text_room": np.array([task.preprocessor.max_length - 1], np.int64), "text_last": np.array([-1], np.int64),
        "text_end": np.array([np.iinfo(np.int64).max], np.int64),
    }  # fmt: skip
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
        )  # fmt: skip
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


def put_tokenizer_before(model, task):
    """Makes a model of ids one of a text, in place; of a classifier, with its answer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    nodes, constants = _tokenizer_nodes(task)
    wanted = {value.name for value in graph.input}
    nodes = [node for node in nodes if node.op_type != "Unsqueeze" or node.output[0] in wanted]
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, [1]))
    for value in graph.output:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    if isinstance(task, TextClassifier) and task.problem_type != REGRESSION:
        constants.append(numpy_helper.from_array(np.array(task.labels, object), "text_labels"))
        multi = task.problem_type == MULTI
        answer = [helper.make_node("Sigmoid" if multi else "Softmax", ["logits"], ["probabilities"])]
        graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, len(task.labels)]))
        if not multi:
            answer += [
                helper.make_node("ArgMax", ["logits"], ["text_best"], axis=1, keepdims=0),
                helper.make_node("Gather", ["text_labels", "text_best"], ["label"]),
            ]
            graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, [1]))
        graph.node.extend(answer)
    elif isinstance(task, TextClassifier):
        graph.node.append(helper.make_node("Identity", ["logits"], ["scores"]))
        graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(task.labels)]))
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *own])
    graph.initializer.extend(constants)
    del model.opset_import[:]
    model.opset_import.extend(_opsets())
    onnx.checker.check_model(model)
