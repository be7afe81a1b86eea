"""The soak (tests/system/soak.py) for ten minutes, or as many as --minutes says."""
import measure
from harness import temp_dir
from soak import Front, Soak, broken
from stack import Stack

FILES, KB = 300, 40


def run(options):
    front = Front(temp_dir("r2shim-bench-"))
    stack = Stack(migrators=1, folder=temp_dir("r2shim-bench-"), proxy=front.options)
    stack.start()
    for number in range(FILES):
        stack.write(f"old/{number}.bin", bytes([number % 256]) * (number * 1000 % (KB << 10)))
    stack.proxy.climb("validate")
    soak = Soak(stack, front)
    soak.load.add_tree(stack.media)
    result = soak.run(options.minutes * 60, measure.progress)
    measure.progress()
    stack.proxy.drained(60)
    result["differences"] = len(stack.differences())
    stack.stop()
    return result


def missed(result):
    found = broken(result)
    if result["differences"]:
        found.append(f"{result['differences']} keys differ between disk and R2 in the end")
    return found
