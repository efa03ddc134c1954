"""STAND-IN, to be replaced by the helper's module."""
from dataclasses import dataclass
def compile_filters(c, now):
    if not c: return "1", []
    return "run.state=?", [c["state"]]
@dataclass
class Order:
    joins: str = ""
    join_params: tuple = ()
    clause: str = "run.started_us DESC, run.id DESC"
    params: tuple = ()
def compile_order(o): return Order()
def register_functions(c): pass
