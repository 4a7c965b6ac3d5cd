"""Cases that every key-value service and backend must pass. Mixins: the test file gives them self.kv, an adapter of
rig.keyvalue, and self.key(name), a key that no other test uses."""
