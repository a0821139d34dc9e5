from bench.openb.replay import main

main()
