# The virtual machines of the end-to-end tests. Each starts as clean as new, runs its tests one after the other, in the order
# of their files' names, and its books must balance afterwards. `make test` runs the tests in "test": one proof of each
# mechanism and option. `make test-full` adds those in "full": variants, soak, long faults. TestA is a whole test but for those
# subtests, TestA/sub, that the other list has. A test that is in neither list fails the build.
#
# Machines that take long come first: they run two at a time, and none is to be waited for alone at the end.
# docs/testing.md tells how long each takes, and how much it may.

machine "liar" {
  test = ["TestLiar", "TestCredentials"]
  full = ["TestLiarMore"]
}

machine "hostile" {
  test = ["TestHostileJobs", "TestHostileRaces", "TestSharedDirectory"]
  full = ["TestHostileRacesMany"]
}

machine "options" {
  test = [
    "TestAgentConfig",
    "TestBadInput", "TestNegativeResources",
    "TestCommand", "TestContainer",
    "TestFiles",
    "TestImage",
    "TestResources",
    "TestSecurity",
    "TestVolumes",
  ]
  full = ["TestResources/root"]
}

machine "ends" {
  test = [
    "TestExits", "TestStop", "TestThousandExits",
    "TestExplain",
    "TestFates",
    "TestGC", "TestRecoverStopped",
  ]
  full = [
    "TestExplain/root",
    "TestFates/manager_killed",
  ]
}

machine "preflight" {
  test = ["TestPreflight"]
  full = [
    "TestPreflight/no_conmon",
    "TestPreflight/no_OCI_runtime",
    "TestPreflight/no_network_helper",
    "TestPreflight/podman.socket_is_masked_for_all",
    "TestPreflight/few_subordinate_IDs",
    "TestPreflight/no_user_namespaces_for_users",
    "TestPreflight/cpuset_is_not_delegated",
    "TestPreflight/containers_without_cgroups",
    "TestPreflight/no_login_shell",
    "TestPreflight/broken_storage.conf",
    "TestPreflight/no_CNI_plugins",
  ]
}

machine "preflight-host" {
  test = ["TestPreflightWhoAndWhere", "TestPreflightChangesNothing", "TestPreflightCreate", "TestPreflightBesideTasks"]
}

machine "logs" {
  test = [
    "TestLogging", "TestLoggingOfKilledLogProcess", "TestLoggingDisabled", "TestLoggingOfTheNode", "TestLoggingBacklog",
    "TestLogs", "TestLogsOfKilledDriver",
  ]
}

machine "delegation" {
  processors = 2
  test       = ["TestDelegation"]
  full       = ["TestDelegation/but_for_cpu"]
}

machine "networks" {
  test = ["TestNetworkModes", "TestPorts"]
  full = ["TestPorts/rootful"]
}

machine "unprivileged" {
  test = ["TestUnprivileged"]
  full = [
    "TestUnprivileged/exits",
    "TestUnprivileged/exits_seen_late",
    "TestUnprivileged/stop",
    "TestUnprivileged/logs_of_a_killed_driver",
    "TestUnprivileged/volumes",
  ]
}

machine "provisioning" {
  test = ["TestProvisioning"]
  full = ["TestProvisioning/ansible.yml"]
}

machine "activation" {
  test = ["TestTroubles"]
  full = [
    "TestTroubles/podman.socket_is_stopped",
    "TestTroubles/the_user_is_logged_out_by_force",
    "TestTroubles/the_user's_manager_is_stopped",
  ]
}

machine "exec" {
  test = ["TestExec", "TestExecTemplateScript", "TestExecScriptCheck"]
  full = ["TestExec/rootful"]
}

machine "cycles" {
  test = ["TestCycles"]
}

machine "cores" {
  processors = 2
  test       = ["TestCores"]
  full       = ["TestCores/rootful"]
}

machine "weights" {
  test = ["TestWeights"]
}

machine "routing" {
  test = ["TestRouting"]
}

machine "stats" {
  test = ["TestStats"]
}

machine "recovery" {
  test = ["TestRecovery"]
}

machine "crash" {
  plugin = "crash"
  test   = ["TestCrash", "TestCrashForgotten"]
  full = [
    "TestCrash/finding_the_endpoint",
    "TestCrash/activating_the_endpoint",
    "TestCrash/preparing_the_log_process",
    "TestCrash/getting_the_image",
    "TestCrash/noting_what_is_begun",
    "TestCrash/describing_the_container",
    "TestCrash/looking_for_the_container_of_an_earlier_try",
    "TestCrash/watching_the_container",
    "TestCrash/following_the_log",
    "TestCrashForgotten/describing_the_container",
    "TestCrashForgotten/following_the_log",
    "TestCrashForgotten/returning",
  ]
}

machine "reboot" {
  test = ["TestReboot"]
}

machine "namespaces" {
  test = ["TestNamespaces"]
}

machine "limits" {
  processors = 2
  test       = ["TestLimits", "TestLimitOptions", "TestNoMemoryLimit"]
}

machine "release" {
  test = ["TestRelease"]
}

machine "conformance" {
  test = ["TestConformanceExec", "TestConformanceDNS"]
}

machine "inventory" {
  test = ["TestSockets"]
}

machine "redis" {
  test = ["TestRedis"]
}

machine "plugin" {
  test = ["TestPluginCalls", "TestTakeover"]
}

machine "broker" {
  full = ["TestBroker"]
}

machine "cycles-many" {
  full = ["TestCyclesMany"]
}

machine "storm" {
  full = ["TestStorm"]
}

machine "idle" {
  full = ["TestIdle"]
}
