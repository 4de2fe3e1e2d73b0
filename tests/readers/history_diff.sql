-- The diff of two snapshots, views "old" and "new", said in another way: what `defender-lake diff --out` must hold.
-- Views "old_rows" and "new_rows" are the same, or leave out products of devices of which all rows are the same in both.
-- Macro "natural_order" gives the order of versions; the times of the snapshots are those of their rows.
WITH old_keys AS (
    SELECT DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion,
           max(NumberOfWeaknesses) AS weaknesses, max(EndOfSupportStatus) AS status
    FROM old_rows GROUP BY ALL
), new_keys AS (
    SELECT DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion,
           max(NumberOfWeaknesses) AS weaknesses, max(EndOfSupportStatus) AS status
    FROM new_rows GROUP BY ALL
), old_devices AS (
    SELECT DeviceId, max(DeviceName) AS name, max(OSPlatform) AS platform, max(RbacGroupName) AS grp FROM old GROUP BY ALL
), new_devices AS (
    SELECT DeviceId, max(DeviceName) AS name, max(OSPlatform) AS platform, max(RbacGroupName) AS grp FROM new GROUP BY ALL
), devices AS (
    SELECT coalesce(n.DeviceId, o.DeviceId) AS DeviceId,
           o.DeviceId IS NOT NULL AS in_old, n.DeviceId IS NOT NULL AS in_new,
           o.name AS old_name, n.name AS new_name, o.platform AS old_platform, n.platform AS new_platform,
           o.grp AS old_grp, n.grp AS new_grp
    FROM old_devices o FULL JOIN new_devices n ON o.DeviceId = n.DeviceId
), removed AS (
    SELECT *, row_number() OVER (PARTITION BY DeviceId, SoftwareVendor, SoftwareName
                                 ORDER BY natural_order(SoftwareVersion) NULLS FIRST, SoftwareVersion NULLS FIRST) AS place
    FROM (SELECT DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion FROM old_keys
          EXCEPT SELECT DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion FROM new_keys)
), installed AS (
    SELECT *, row_number() OVER (PARTITION BY DeviceId, SoftwareVendor, SoftwareName
                                 ORDER BY natural_order(SoftwareVersion) NULLS FIRST, SoftwareVersion NULLS FIRST) AS place
    FROM (SELECT DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion FROM new_keys
          EXCEPT SELECT DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion FROM old_keys)
), versions AS (
    SELECT CASE WHEN r.place IS NULL THEN 'installed' WHEN i.place IS NULL THEN 'removed' ELSE 'version_changed' END AS Change,
           coalesce(i.DeviceId, r.DeviceId) AS DeviceId,
           coalesce(i.SoftwareVendor, r.SoftwareVendor) AS SoftwareVendor, coalesce(i.SoftwareName, r.SoftwareName) AS SoftwareName,
           r.SoftwareVersion AS OldVersion, i.SoftwareVersion AS NewVersion, NULL AS OldValue, NULL AS NewValue
    FROM removed r FULL JOIN installed i ON r.DeviceId = i.DeviceId AND r.place = i.place
        AND r.SoftwareVendor IS NOT DISTINCT FROM i.SoftwareVendor AND r.SoftwareName IS NOT DISTINCT FROM i.SoftwareName
), kept AS (
    SELECT n.*, o.weaknesses AS old_weaknesses, o.status AS old_status
    FROM old_keys o JOIN new_keys n ON o.DeviceId = n.DeviceId
        AND o.SoftwareVendor IS NOT DISTINCT FROM n.SoftwareVendor AND o.SoftwareName IS NOT DISTINCT FROM n.SoftwareName
        AND o.SoftwareVersion IS NOT DISTINCT FROM n.SoftwareVersion
), changes AS (
    SELECT * FROM versions
    UNION ALL
    SELECT 'weaknesses_changed', DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion, SoftwareVersion,
           old_weaknesses::VARCHAR, weaknesses::VARCHAR
    FROM kept WHERE old_weaknesses IS DISTINCT FROM weaknesses
    UNION ALL
    SELECT 'end_of_support_changed', DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion, SoftwareVersion, old_status, status
    FROM kept WHERE old_status IS DISTINCT FROM status
    UNION ALL
    SELECT 'device_appeared', DeviceId, NULL, NULL, NULL, NULL, NULL, NULL FROM devices WHERE NOT in_old
    UNION ALL
    SELECT 'device_disappeared', DeviceId, NULL, NULL, NULL, NULL, NULL, NULL FROM devices WHERE NOT in_new
    UNION ALL
    SELECT 'device_renamed', DeviceId, NULL, NULL, NULL, NULL, old_name, new_name
    FROM devices WHERE in_old AND in_new AND old_name IS DISTINCT FROM new_name
    UNION ALL
    SELECT 'device_moved', DeviceId, NULL, NULL, NULL, NULL, old_grp, new_grp
    FROM devices WHERE in_old AND in_new AND old_grp IS DISTINCT FROM new_grp
    UNION ALL
    SELECT 'device_platform_changed', DeviceId, NULL, NULL, NULL, NULL, old_platform, new_platform
    FROM devices WHERE in_old AND in_new AND old_platform IS DISTINCT FROM new_platform
)
SELECT Change, DeviceId,
       CASE WHEN in_new THEN new_name ELSE old_name END AS DeviceName,
       CASE WHEN in_new THEN new_platform ELSE old_platform END AS OSPlatform,
       CASE WHEN in_new THEN new_grp ELSE old_grp END AS RbacGroupName,
       SoftwareVendor, SoftwareName, OldVersion, NewVersion, OldValue, NewValue,
       (SELECT max(GeneratedTime) FROM old) AS OldGeneratedTime, (SELECT max(GeneratedTime) FROM new) AS NewGeneratedTime
FROM changes JOIN devices USING (DeviceId)
