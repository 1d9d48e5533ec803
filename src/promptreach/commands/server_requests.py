"""The programs and commands of an export that ask a server: templates, filled with the adapter's own names and sizes.

They stand alone: nothing of this library is needed where they run.
"""

import shlex
from collections.abc import Mapping

_EMBEDDED = '''
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent


def embedded(text):
    """The embeddings of a text (tokens, hidden), as the base's first layer reads them."""
    ids = AutoTokenizer.from_pretrained(<PLACE>)(text, return_tensors="pt").input_ids[0]
    model = AutoModelForCausalLM.from_pretrained(<PLACE>, dtype=torch.float32)
    with torch.no_grad():
        return model.get_input_embeddings()(ids)


def asked(url, body):
    """The server's answer to a JSON request."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
'''

VLLM_REQUEST = (
    '''"""A completion of vLLM behind the prompt: python request.py "a text" [http://localhost:8000]"""

import base64
import io
import json
import sys
import urllib.request
from pathlib import Path
'''
    + _EMBEDDED
    + """

def main(text, server="http://localhost:8000"):
    prompt = torch.load(HERE / "prompt_embeds.pt", weights_only=True)
    buffer = io.BytesIO()
    torch.save(torch.cat([prompt.float(), embedded(text)]).to(<DTYPE>), buffer)
    body = {"model": <BASE>, "prompt_embeds": base64.b64encode(buffer.getvalue()).decode()}
    answer = asked(f"{server}/v1/completions", {**body, "max_tokens": 32, "temperature": 0})
    print(answer["choices"][0]["text"])


if __name__ == "__main__":
    main(*sys.argv[1:])
"""
)

SGLANG_REQUEST = (
    '''"""A text of SGLang behind the prompt: python request.py "a text" [http://localhost:30000]"""

import json
import sys
import urllib.request
from pathlib import Path
'''
    + _EMBEDDED
    + """

def main(text, server="http://localhost:30000"):
    prompt = json.loads((HERE / "input_embeds.json").read_text())
    body = {"input_embeds": prompt + embedded(text).tolist()}
    answer = asked(f"{server}/generate", {**body, "sampling_params": {"max_new_tokens": 32, "temperature": 0}})
    print(answer["text"])


if __name__ == "__main__":
    main(*sys.argv[1:])
"""
)

TENSORRT_REQUEST = '''"""A text of a TensorRT-LLM engine behind the prompt: python request.py "a text" ENGINE"""

import sys
from pathlib import Path

import numpy
import torch
from transformers import AutoTokenizer

TABLE = torch.from_numpy(numpy.load(Path(__file__).parent / "embedding_table.npy"))[0]
TOKENIZER = AutoTokenizer.from_pretrained(<PLACE>)


def token_ids(text):
    """The ids of the virtual tokens, which lie beyond the vocabulary, and those of the text."""
    return [<VOCABULARY> + row for row in range(len(TABLE))] + TOKENIZER(text).input_ids


def main(text, engine):
    import tensorrt_llm.bindings.executor as trtllm

    executor = trtllm.Executor(engine, trtllm.ModelType.DECODER_ONLY, trtllm.ExecutorConfig(1))
    ids = token_ids(text)
    table = trtllm.PromptTuningConfig(embedding_table=TABLE.to("cuda", <DTYPE>))
    request = trtllm.Request(input_token_ids=ids, max_tokens=32, prompt_tuning_config=table)
    for response in executor.await_responses(executor.enqueue_request(request)):
        written = response.result.output_token_ids[0]
        print(TOKENIZER.decode(written[len(ids) :] if written[: len(ids)] == ids else written))


if __name__ == "__main__":
    main(*sys.argv[1:])
'''

TENSORRT_UPDATE = '''"""A text of TensorRT-LLM's PyTorch backend with the update: python request.py TEXT"""

import sys

FOLDER = <ADAPTER>


def main(text):
    from tensorrt_llm import LLM, SamplingParams
    from tensorrt_llm.executor import LoRARequest
    from tensorrt_llm.lora_manager import LoraConfig

    llm = LLM(model=<BASE>, lora_config=LoraConfig(lora_dir=[FOLDER], max_lora_rank=<RANK>))
    asked = [LoRARequest("update", 0, FOLDER)]
    (answer,) = llm.generate([text], SamplingParams(max_tokens=32), lora_request=asked)
    print(answer.outputs[0].text)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''

LLAMA_REQUEST = '''"""A text of llama-cpp-python behind the prompt: python request.py MODEL.gguf TEXT"""

import ctypes
import sys
from pathlib import Path

import llama_cpp
import numpy

PROMPT = numpy.fromfile(Path(__file__).parent / "prompt.f32", dtype="<f4").reshape(<TOKENS>, <HIDDEN>)


def opened(path, most=512):
    """A model in a GGUF file, and a context of so many positions in it."""
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = most
    return model, llama_cpp.llama_init_from_model(model, options)


def decode(context, first, ids=None):
    """The logits behind the last of some tokens, or of the virtual tokens where none are given."""
    count = len(PROMPT if ids is None else ids)
    batch = llama_cpp.llama_batch_init(count, PROMPT.shape[1] if ids is None else 0, 1)
    batch.n_tokens = count
    if ids is None:
        ctypes.memmove(batch.embd, PROMPT.ctypes.data, PROMPT.nbytes)
    for index in range(count):
        if ids is not None:
            batch.token[index] = ids[index]
        batch.pos[index], batch.n_seq_id[index], batch.seq_id[index][0] = first + index, 1, 0
        batch.logits[index] = index == count - 1
    status = llama_cpp.llama_decode(context, batch)
    llama_cpp.llama_batch_free(batch)
    if status:
        raise RuntimeError(f"llama_decode ended with {status}")
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context)))
    return numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (size,)).copy()


def main(path, text):
    model, context = opened(path)
    vocabulary, ids = llama_cpp.llama_model_get_vocab(model), (llama_cpp.llama_token * 512)()
    raw = text.encode()
    count = llama_cpp.llama_tokenize(vocabulary, raw, len(raw), ids, 512, True, False)
    decode(context, 0)
    place, logits = len(PROMPT) + count, decode(context, len(PROMPT), list(ids[:count]))
    for _ in range(32):
        token = int(logits.argmax())
        if llama_cpp.llama_vocab_is_eog(vocabulary, token):
            break
        piece = ctypes.create_string_buffer(64)
        length = llama_cpp.llama_token_to_piece(vocabulary, token, piece, 64, 0, False)
        print(piece.raw[:length].decode(errors="replace"), end="", flush=True)
        place, logits = place + 1, decode(context, place, [token])
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


def filled(template: str, **names: str) -> bytes:
    """A template with its names in angle brackets replaced."""
    for name, value in names.items():
        template = template.replace(f"<{name}>", value)
    return template.encode()


def curl(requests: Mapping[str, str], port: int) -> bytes:
    """A shell script that sends files of JSON to paths of a server."""
    lines = ["#!/bin/sh", 'cd "$(dirname "$0")" || exit', f'server="${{1:-http://localhost:{port}}}"']
    for path, file in requests.items():
        header = shlex.quote("Content-Type: application/json")
        lines += [f'curl -s "$server{path}" -H {header} -d @{file}', "echo"]
    return "\n".join([*lines, ""]).encode()
