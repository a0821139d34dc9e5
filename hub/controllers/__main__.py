from hub.controllers.main import main

raise SystemExit(main())
