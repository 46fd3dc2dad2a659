# The virtual machines of the end-to-end tests. Each starts as clean as new, runs its tests one after the other, and its
# books must balance afterwards. `make test` runs the tests in "test": one proof of each mechanism and option. `make test-full`
# adds those in "full": variants, soak, long faults. TestA is a whole test but for those subtests, TestA/sub, that the other
# list has. A test that is in neither list fails the build. Machines that take long come first. docs/testing.md tells more.

machine "activation" {
  test   = ["TestTroubles"]
}

machine "agentconfig" {
  test   = ["TestAgentConfig"]
}

machine "badinput" {
  test   = ["TestBadInput", "TestNegativeResources"]
}

machine "broker" {
  test   = ["TestBroker"]
}

machine "conformance" {
  test   = ["TestConformanceExec", "TestConformanceDNS"]
}

machine "cpu" {
  test   = ["TestWeights", "TestCores"]
}

machine "crash" {
  plugin = "crash"
  test   = ["TestCrash", "TestCrashForgotten"]
}

machine "cycles" {
  test   = ["TestCycles"]
  full   = ["TestCyclesMany"]
}

machine "delegation" {
  test   = ["TestDelegation"]
}

machine "exec" {
  test   = ["TestExec", "TestExecTemplateScript", "TestExecScriptCheck"]
}

machine "exits" {
  test   = ["TestExits", "TestStop", "TestThousandExits"]
}

machine "explain" {
  test   = ["TestExplain"]
}

machine "fates" {
  test   = ["TestFates"]
}

machine "files" {
  test   = ["TestFiles"]
}

machine "gc" {
  test   = ["TestGC", "TestRecoverStopped"]
}

machine "idle" {
  full   = ["TestIdle"]
}

machine "image" {
  test   = ["TestImage"]
}

machine "inventory" {
  test   = ["TestSockets"]
}

machine "liar" {
  test   = ["TestLiar", "TestCredentials"]
}

machine "limits" {
  test   = ["TestLimits", "TestLimitOptions", "TestNoMemoryLimit"]
}

machine "logging" {
  test   = ["TestLogging", "TestLoggingOfKilledLogProcess", "TestLoggingDisabled", "TestLoggingOfTheNode", "TestLoggingBacklog"]
}

machine "logs" {
  test   = ["TestLogs", "TestLogsOfKilledDriver"]
}

machine "namespaces" {
  test   = ["TestNamespaces"]
}

machine "network" {
  test   = ["TestNetworkModes"]
}

machine "plugin" {
  test   = ["TestPluginCalls", "TestTakeover"]
}

machine "ports" {
  test   = ["TestPorts"]
}

machine "preflight_host" {
  test   = ["TestPreflightWhoAndWhere", "TestPreflightChangesNothing", "TestPreflightCreate", "TestPreflightBesideTasks"]
}

machine "preflight_provision" {
  test   = ["TestProvisioning"]
}

machine "preflight" {
  test   = ["TestPreflight"]
}

machine "process" {
  test   = ["TestCommand", "TestLabels", "TestInit"]
}

machine "reboot" {
  test   = ["TestReboot"]
}

machine "recovery" {
  test   = ["TestRecovery"]
}

machine "redis" {
  test   = ["TestRedis"]
}

machine "release" {
  test   = ["TestRelease"]
}

machine "resources" {
  test   = ["TestResources"]
}

machine "routing" {
  test   = ["TestRouting"]
}

machine "security" {
  test   = ["TestSecurity"]
}

machine "stats" {
  test   = ["TestStats"]
}

machine "storm" {
  full   = ["TestStorm"]
}

machine "unprivileged" {
  test   = ["TestUnprivileged"]
}

machine "volumes" {
  test   = ["TestVolumes"]
}
