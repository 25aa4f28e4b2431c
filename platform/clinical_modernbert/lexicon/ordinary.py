"""Words that are heads of ICD descriptions but ordinary: alone they would mark half of any text.

A term made of such words only is left out ("effects", "left arm"); with any other word, or as the name of a disease
("renal calculus", "renal failure"), it stays. Collected by eye from the heads that are most frequent in open notes and
abstracts: anatomy, adjectives, and nouns that any report uses.
"""

ORDINARY_WORDS = frozenset(
    """
    abdomen abdominal abnormal abnormalities abnormality absence accident accretions activity adjustment administration
    adult advancement affections after alcohol allergic alteration alterations alveolar anal anesthesia angle ankle
    anomalies application area arm arrest assessment attachment attention atypical auditory back behavioral birth bite
    bitten blood body bone bowing breakdown burying capsular cardiac cardiovascular care causes cells central cerebellar
    cerebral change changes cheek child clipping closure collection coma combinations combined community complex
    complication complications condition conditions construction consultation contact contour control conversion cord
    corneal correction cortical counseling creation crowding crushed crushing curvature curvatures cutaneous cutting damage
    deaf death defect defects deficiencies deficiency degenerative delay delayed delays deletion deletions delivery dental
    deposits deprivation destruction deviation device diagnosis diagnostic diaper diet difficulties difficulty diffuse
    diminution discontinuity disease diseases disorder disorders dispensing displacement disruption disseminated
    dissociative disturbance disturbances division dorsal doubling drug duplication duplications early effect effects elbow
    electric elevated elevation encounter endocrine enlarged enlargement essential evaluation examination excessive excision
    exercise exploration exposure extension external extraction extradural extrapyramidal eye face facilitation failed
    failure fall fear feeding feeling felon female females fetal finding findings finger fissured fitting fixation fluid
    folds food foot forceps forearm foreign form formation forms fourth fragment fragments freeing frequency function
    functional gait gastric general generalized genetic geography gingival group growth habit hand head healing heavy
    hepatic hereditary hesitancy high history home hospital hostility human hyperplastic hypertonic hypertrophic illness
    imbalance impairment implant impulsiveness incision incompetence indication indications individual individuals induced
    induction infantile infection infections infectious inflammatory injection injuries injury insertion internal
    interruption interstitial interview intestinal intra intracranial inversion irregularities irrigation isolated isolation
    joint knee known labor laboratory lack large late leg length lens level light limb limbar liver lobulated local long
    loss lower lumbar lymphatic male males management manifestations manipulation manual marital mass measurement mechanical
    memory menopausal mental mild minor misery mitral mixed mobilization monitoring mother motor multifocal multiple nail
    nasal neck need neurosis newborn nonunion normal nose nutritional obliteration observation obstructive occlusion ocular
    onset opening operation operations optic oral organ osseous outcome overfeeding overweight packing pain part partial
    patient pedicle pelvic person personality photography physical piercing place placement poor position postcoital posture
    pregnancy prescription presence pressure probing problem problems procedure procedures production program prolonged
    psychological pulmonary puncture pyemic quadrant range rape rash reaction reactions reading recession reconstructive
    reduction referral rehabilitation related relaxation release removal renal repair replacement respiratory restoration
    result retention retinal retropharyngeal retroverted revision rotation scanty school screening sector sedative segment
    segmental sensory separation sequelae severe severity shortening shortness shoulder sign signs single sinus site sites
    sixth skin sleep slowing slowness small smoking social special speech spinal spine splint splitting spotting stage
    starvation state status strain straining strains strange stress stretching subdural supervision suppression surface
    surgery surgical suture symptom symptoms syndrome system systemic tear teeth termination test therapy thigh third
    thoracic tissue tooth topography toxic toxicity training transfer transport transposition transverse trauma treatment
    twin type types underdosing underfeeding unhappiness unknown unspecified upper urine use variants variations vascular
    ventilator ventral verbosity video viral visual voice vulvar walking water wear weeks weight work worries wound wounds
    wrist
    """.split()  # noqa: SIM905 - 400 quoted words are harder to review
)

# Everyday words and tokens of forms among the drug list's brand names and abbreviations.
EVERYDAY_DRUG_NAMES = frozenset(
    {"aman", "caps", "dona", "emend", "generics", "hops", "iscover", "oats", "tris", "vals"}
)
