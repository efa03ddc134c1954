"""STAND-IN, to be replaced by the helper's module."""
class ConsoleCapture:
    def __init__(self, emit): pass
    def start(self): pass
    def stop(self): pass
    def detach(self): pass
