# The virtual machines of the end-to-end tests. Each starts as clean as new, runs its tests one after the other, and its
# books must balance afterwards. `make test` runs the tests in "test": one proof of each mechanism and option. `make test-full`
# adds those in "full": variants, soak, long faults. TestA is a whole test but for those subtests, TestA/sub, that the other
# list has. A test that is in neither list fails the build. Machines that take long come first. docs/testing.md tells more.

machine "preflight_provision" {
  test   = ["TestProvisioning"]
}

machine "activation" {
  test   = ["TestTroubles"]
}

machine "liar" {
  test   = ["TestLiar", "TestCredentials"]
}

machine "cycles" {
  test   = ["TestCycles"]
  full   = ["TestCyclesMany"]
}

machine "delegation" {
  processors = 2
  test   = ["TestDelegation"]
}

machine "cpu" {
  processors = 2
  test   = ["TestWeights", "TestCores"]
}

machine "crash" {
  plugin = "crash"
  test   = ["TestCrash", "TestCrashForgotten"]
}

machine "unprivileged" {
  test   = ["TestUnprivileged"]
}

machine "preflight" {
  test   = ["TestPreflight"]
}

machine "preflight_host" {
  test   = ["TestPreflightWhoAndWhere", "TestPreflightChangesNothing", "TestPreflightCreate", "TestPreflightBesideTasks"]
}

machine "exec" {
  test   = ["TestExec", "TestExecTemplateScript", "TestExecScriptCheck"]
}

machine "routing" {
  test   = ["TestRouting"]
}

machine "stats" {
  test   = ["TestStats"]
}

machine "logging" {
  test   = ["TestLogging", "TestLoggingOfKilledLogProcess", "TestLoggingDisabled", "TestLoggingOfTheNode", "TestLoggingBacklog"]
}

machine "broker" {
  test   = ["TestBroker"]
}

machine "recovery" {
  test   = ["TestRecovery"]
}

machine "reboot" {
  test   = ["TestReboot"]
}

machine "namespaces" {
  test   = ["TestNamespaces"]
}

machine "limits" {
  processors = 2
  test   = ["TestLimits", "TestLimitOptions", "TestNoMemoryLimit"]
}

machine "explain" {
  test   = ["TestExplain"]
}

machine "network" {
  test   = ["TestNetworkModes"]
}

machine "release" {
  test   = ["TestRelease"]
}

machine "exits" {
  test   = ["TestExits", "TestStop", "TestThousandExits"]
}

machine "fates" {
  test   = ["TestFates"]
}

machine "gc" {
  test   = ["TestGC", "TestRecoverStopped"]
}

machine "conformance" {
  test   = ["TestConformanceExec", "TestConformanceDNS"]
}

machine "ports" {
  test   = ["TestPorts"]
}

machine "process" {
  test   = ["TestCommand", "TestLabels", "TestInit"]
}

machine "inventory" {
  test   = ["TestSockets"]
}

machine "security" {
  test   = ["TestSecurity"]
}

machine "resources" {
  test   = ["TestResources"]
}

machine "redis" {
  test   = ["TestRedis"]
}

machine "agentconfig" {
  test   = ["TestAgentConfig"]
}

machine "volumes" {
  test   = ["TestVolumes"]
}
machine "logs" {
  test   = ["TestLogs", "TestLogsOfKilledDriver"]
}

machine "badinput" {
  test   = ["TestBadInput", "TestNegativeResources"]
}

machine "image" {
  test   = ["TestImage"]
}

machine "plugin" {
  test   = ["TestPluginCalls", "TestTakeover"]
}

machine "files" {
  test   = ["TestFiles"]
}

machine "idle" {
  full   = ["TestIdle"]
}

machine "storm" {
  full   = ["TestStorm"]
}

