"""A robot that talks to ``plait serve``: it does what it is told, and then a hand covers one of its cameras.

plait serve quickstart/run      # in another terminal
python examples/robot.py
"""

from plait import envs
from plait.serve.client import Client

env = envs.make("tabletop")
with Client("127.0.0.1", 8000, late="hold", robot="left") as robot:
    for covered in ("nothing", "front"):
        observation, info = env.reset(seed=2**30 + 194)  # a scene that training has never seen
        robot.reset()
        step, mode, ended = 0, "", False
        while not ended:
            if covered in robot.metadata["spec"]["cameras"] and step >= 4:
                observation[f"observation.images.{covered}"][:] = 0
            reply = robot.infer({**observation, "prompt": "pick up the red ball"})
            if reply["safety"]["mode"] != mode:
                mode = reply["safety"]["mode"]
                print(f"covered: {covered}; step {step}: {mode}", *reply["safety"]["reasons"], sep="; ")
            for action in reply["actions"][: robot.metadata["execute"]]:
                observation, _, terminated, truncated, info = env.step(action)
                step += 1
                if ended := terminated or truncated:
                    break
        print(f"covered: {covered}; step {step}: success {info['is_success']}, lifted: {info['lifted']}")
