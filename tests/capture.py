"""Compiles and exports one policy per part and prints the name of each; run by test_contract.py."""

import torch

from policies import SINGLE, random_batch, small_policy

torch.set_num_threads(1)
for name, parts in SINGLE.items():
    policy = small_policy(**parts)
    inputs = random_batch(policy).inputs
    with torch.no_grad(), torch._dynamo.config.patch(allow_rnn=True):  # the compiler asks before it takes an LSTM
        torch._dynamo.reset()
        eager = policy(inputs)
        torch.testing.assert_close(torch.compile(policy, fullgraph=True, backend="aot_eager")(inputs), eager)
        torch.testing.assert_close(torch.export.export(policy, (inputs,)).module()(inputs), eager)
    print(name, flush=True)
