from cluster.login.cli import main

main(prog_name="python -m cluster")
